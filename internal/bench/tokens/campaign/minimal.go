package campaign

import "slices"

// maxTries bounds the search for a minimal text, each try of which may ask the reference.
const maxTries = 3000

// minimal takes parts out of a text as long as bad still holds, larger parts first ("delta debugging", Zeller
// and Hildebrandt 2002, without its complements).
func minimal(text []byte, bad func([]byte) bool) []byte {
	tries := 0
	for size := (len(text) + 1) / 2; size > 0; {
		shorter := false
		for at := 0; at < len(text) && tries < maxTries; {
			tries++
			if without := slices.Concat(text[:at], text[min(at+size, len(text)):]); bad(without) {
				text, shorter = without, true
			} else {
				at += size
			}
		}
		if size > 1 {
			size /= 2
		} else if !shorter || tries >= maxTries {
			break
		}
	}
	return text
}
