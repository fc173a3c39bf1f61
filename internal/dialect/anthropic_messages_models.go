package dialect

import (
	"math"
	"strings"
)

// messagesModel is what the cost of a prompt depends on, by the model's family.
type messagesModel struct {
	part string // of the model's name
	// Tokens of the prompt with which Anthropic introduces tools, if there are any:
	// where the model may choose, and where it must call one. From the documentation,
	// "Tool use with Claude", Pricing, July 2026; for models that are gone, from
	// earlier editions of it.
	tools, forced int64
	image         imageTier
}

// imageTier is how large an image gets to a model. A larger one is scaled down first.
// From the documentation, "Vision": an image costs a token for each patch of 28 × 28
// pixels, of which some may stand out at two sides.
type imageTier struct {
	edge   uint32 // pixels of the longer side
	tokens int64
}

var (
	standardTier = imageTier{1568, 1568}
	highTier     = imageTier{2576, 4784} // from Claude 4.7 on
)

const imagePatch = 28 // pixels

// messagesModels: the first part that a model's name has counts.
var messagesModels = []messagesModel{
	{"opus-4-8", 290, 410, highTier},
	{"opus-4-7", 675, 804, highTier},
	{"opus-4-6", 497, 589, standardTier},
	{"sonnet-4-6", 497, 589, standardTier},
	{"opus-4-5", 496, 588, standardTier},
	{"sonnet-4-5", 496, 588, standardTier},
	{"haiku-4-5", 496, 588, standardTier},
	{"opus-4", 313, 315, standardTier},
	{"sonnet-4", 313, 315, standardTier},
	{"sonnet-5", 354, 474, highTier},
	{"3-7-sonnet", 346, 313, standardTier},
	{"3-5-sonnet", 346, 313, standardTier},
	{"3-5-haiku", 264, 355, standardTier},
	{"3-haiku", 264, 340, standardTier},
	{"3-sonnet", 159, 235, standardTier},
	{"3-opus", 530, 281, standardTier},
	{"", 500, 600, highTier}, // later ones, and what is not known. A guess
}

// messagesModelOf looks up a model. What clouds put around its name does not matter,
// as in "us.anthropic.claude-sonnet-4-5-20250929-v1:0" or "anthropic/claude-opus-4.6".
func messagesModelOf(name string) *messagesModel {
	name = strings.ReplaceAll(strings.ToLower(name), ".", "-")
	for i := range messagesModels {
		if strings.Contains(name, messagesModels[i].part) {
			return &messagesModels[i]
		}
	}
	panic("dialect: the last model has no part, so it fits")
}

// summarizes says that a model shows a summary of its thinking, if any of it, and bills the
// whole: Claude does from 4 on. From the documentation, "Extended thinking".
func summarizes(name string) bool {
	return strings.Contains(strings.ToLower(name), "claude") && !strings.HasPrefix(messagesModelOf(name).part, "3-")
}

// of is the cost of an image of the given size in pixels; of the largest one if a side
// is zero, which stands for a size that is not known.
func (t imageTier) of(width, height uint32) int64 {
	if width == 0 || height == 0 {
		return t.tokens
	}
	long, short := float64(max(width, height)), float64(min(width, height))
	patches := func(long float64, ratio float64) int64 {
		return across(long, imagePatch) * across(long*ratio, imagePatch)
	}
	ratio := short / long
	if long <= float64(t.edge) && patches(long, ratio) <= t.tokens {
		return patches(long, ratio)
	}
	// The longest whole number of pixels that fits.
	low, high := 1.0, math.Min(long, float64(t.edge))
	for high-low >= 1 {
		if middle := math.Ceil((low + high) / 2); patches(middle, ratio) <= t.tokens {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return patches(low, ratio)
}
