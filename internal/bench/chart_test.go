package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strconv"
	"testing"
)

// A chart is well-formed whatever its words are, and its bars are as long as their figures.
func TestChart(t *testing.T) {
	c := Chart{Title: `CPU & "time" <ms>`, Note: "a < b", Series: []string{"server", "Envoy"}, Panels: []Panel{
		{"one", []Bar{{"a", []float64{1, 2}, "3.0", false}, {"b", []float64{math.NaN(), 1}, "1.0", true}}},
		{"nothing is known", []Bar{{"a", []float64{math.NaN()}, "–", false}}},
	}}
	svg := c.SVG()
	if !bytes.Equal(svg, c.SVG()) {
		t.Error("the same chart is drawn in two ways")
	}
	var widths []float64
	var texts []string
	dec := xml.NewDecoder(bytes.NewReader(svg))
	for in := ""; ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		switch token := token.(type) {
		case xml.StartElement:
			in = token.Name.Local
			var height, width string
			for _, a := range token.Attr {
				switch a.Name.Local {
				case "height":
					height = a.Value
				case "width":
					width = a.Value
				}
			}
			if in == "rect" && height == strconv.Itoa(barHeight) {
				w, err := strconv.ParseFloat(width, 64)
				if err != nil {
					t.Error(err)
				}
				widths = append(widths, w)
			}
		case xml.CharData:
			if in == "text" && len(bytes.TrimSpace(token)) > 0 {
				texts = append(texts, string(token))
			}
		}
	}
	if len(widths) != 3 {
		t.Fatalf("bars %v, want three parts", widths)
	}
	if d := widths[1] - 2*widths[0]; d < -0.5 || d > 2 {
		t.Errorf("parts of 1 and 2 are %v and %v wide", widths[0], widths[1])
	}
	if widths[2] != widths[0] {
		t.Errorf("two parts of 1 are %v and %v wide", widths[0], widths[2])
	}
	if len(texts) < 2 || texts[0] != c.Title || texts[1] != c.Note {
		t.Errorf("texts %q", texts)
	}
}
