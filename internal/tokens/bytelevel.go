package tokens

import "sync"

// Byte-level BPE writes each byte as a printable character, so that files of tokens are text: those bytes which are
// printable characters of Latin-1 stand for themselves, the others, in order, are U+0100 and on (bytes_to_unicode of
// OpenAI's GPT-2 code, 2019).

// byteOfChar[r] is the byte that the character r stands for, plus 1; 0 if it stands for none.
var byteOfChar = sync.OnceValue(func() *[0x100 + 68]uint16 {
	var table [0x100 + 68]uint16
	next := 0x100
	for c := range 0x100 {
		if '!' <= c && c <= '~' || 0xa1 <= c && c <= 0xac || 0xae <= c {
			table[c] = uint16(c) + 1
		} else {
			table[next] = uint16(c) + 1
			next++
		}
	}
	return &table
})

// fromByteLevel returns the bytes that chars stand for; ok is false if one of them stands for none.
func fromByteLevel(chars string) (text string, ok bool) {
	table := byteOfChar()
	b := make([]byte, 0, len(chars))
	for _, r := range chars {
		if int(r) >= len(table) || table[r] == 0 {
			return "", false
		}
		b = append(b, byte(table[r]-1))
	}
	return string(b), true
}
