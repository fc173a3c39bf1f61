package bench

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"strings"
	"unicode/utf8"
)

// Chart is a picture of bars, a few panels below each other. Each panel has a scale of its own, from zero.
type Chart struct {
	Title  string
	Note   string   // below the title
	Series []string // names of the parts of a bar, in their order, at most three; one part needs none
	Panels []Panel
}

// Panel is a group of bars that can be compared.
type Panel struct {
	Title string
	Bars  []Bar
}

// Bar is one figure, as a sum of parts. Parts that are not numbers are left out.
type Bar struct {
	Label  string
	Parts  []float64
	Text   string // the figure, as it is to be read
	Strong bool   // it is the one that the chart is about
}

// Sizes, in pixels.
const (
	chartWidth  = 760
	chartMargin = 16
	labelWidth  = 120
	textWidth   = 96
	barHeight   = 16
	barStep     = 24
	panelTitle  = 30
	chartHead   = 60
)

// chartStyle has the colours for light and dark. A picture within a page follows the reader's system, not the page,
// so it brings its own background.
const chartStyle = `text{font:13px system-ui,-apple-system,"Segoe UI",sans-serif;fill:#52514e}
.bg{fill:#fcfcfb;stroke:#e1e0d9}.t{font-weight:600;font-size:15px;fill:#0b0b0b}.h{font-weight:600;fill:#0b0b0b}.s{font-weight:600;fill:#0b0b0b}
.n{font-size:12px}.e{text-anchor:end}.axis{stroke:#c3c2b7}
.p0{fill:#2a78d6}.p1{fill:#1baf7a}.p2{fill:#eda100}
@media(prefers-color-scheme:dark){text{fill:#c3c2b7}.bg{fill:#1a1a19;stroke:#2c2c2a}.t,.h,.s{fill:#fff}.axis{stroke:#52514e}
.p0{fill:#3987e5}.p1{fill:#199e70}.p2{fill:#c98500}}`

// SVG draws the chart. The same chart is the same bytes.
func (c Chart) SVG() []byte {
	height := chartHead + chartMargin
	if len(c.Series) > 0 {
		height += barStep
	}
	for _, p := range c.Panels {
		height += panelTitle + barStep*len(p.Bars)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n<style>%s</style>\n",
		chartWidth, height, chartWidth, height, html.EscapeString(c.Title), chartStyle)
	fmt.Fprintf(&b, `<rect class="bg" x="0.5" y="0.5" width="%d" height="%d" rx="6"/>`+"\n", chartWidth-1, height-1)
	text := func(class string, x, y int, s string) {
		fmt.Fprintf(&b, `<text class="%s" x="%d" y="%d">%s</text>`+"\n", class, x, y, html.EscapeString(s))
	}
	text("t", chartMargin, 28, c.Title)
	text("n", chartMargin, 48, c.Note)
	y := chartHead
	if len(c.Series) > 0 {
		x := chartMargin + labelWidth
		for i, name := range c.Series {
			fmt.Fprintf(&b, `<rect class="p%d" x="%d" y="%d" width="11" height="11" rx="2"/>`+"\n", i, x, y+3)
			text("n", x+16, y+13, name)
			x += 36 + 7*utf8.RuneCountInString(name)
		}
		y += barStep
	}
	for _, p := range c.Panels {
		most := 0.0
		for _, bar := range p.Bars {
			most = max(most, bar.sum())
		}
		text("h", chartMargin, y+20, p.Title)
		y += panelTitle
		left := chartMargin + labelWidth
		fmt.Fprintf(&b, `<line class="axis" x1="%d" y1="%d" x2="%d" y2="%d"/>`+"\n", left, y, left, y+barStep*len(p.Bars)-(barStep-barHeight))
		for _, bar := range p.Bars {
			class := ""
			if bar.Strong {
				class = "s "
			}
			text(class+"e", left-8, y+13, bar.Label)
			end := bar.draw(&b, float64(left), y, float64(chartWidth-chartMargin-textWidth-left)/most)
			text(strings.TrimSpace(class), int(end)+6, y+13, bar.Text)
			y += barStep
		}
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// sum is the length of a bar.
func (b Bar) sum() (s float64) {
	for _, part := range b.Parts {
		if !math.IsNaN(part) {
			s += part
		}
	}
	return s
}

// draw draws the parts of a bar and returns where it ends.
func (b Bar) draw(out *bytes.Buffer, x float64, y int, scale float64) float64 {
	if math.IsInf(scale, 0) || math.IsNaN(scale) {
		return x
	}
	for i, part := range b.Parts {
		if math.IsNaN(part) || part <= 0 {
			continue
		}
		// The gap between two parts is taken from the part.
		fmt.Fprintf(out, `<rect class="p%d" x="%.1f" y="%d" width="%.1f" height="%d" rx="2"/>`+"\n", i, x+1, y, max(part*scale-1.5, 0.5), barHeight)
		x += part * scale
	}
	return x
}
