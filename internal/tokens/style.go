package tokens

// A splitter is a function that splits: the patterns that share one differ in what a style says.
type splitter uint8

const (
	cased    splitter = iota // o200k_base and what is like it: words end where lower case ends
	words                    // cl100k_base and what is like it
	gpt2                     // r50k_base, p50k_base
	deepSeek                 // DeepSeek V3
)

// A style is a split pattern, as its splitter and the run of a Counter need to know it. The splitters are the
// authority.
type style struct {
	splitter    splitter
	classes     [8]class // the class to take for each class of the tables
	digits      int      // the most digits of one piece; 0 if there is no such bound
	isolated    bool     // numbers are cut out first: in front of one, the pattern sees the end of a text
	contraction bool     // 's and the like end a word, instead of being pieces
	slash       bool     // [\r\n/]* rather than [\r\n]* ends punctuation
	wholeEnd    bool     // white space at the end of the text is one piece, line ends or not
}

var (
	classesCased = [8]class{punct, upper, lower, other, mark, number, space, newline}
	classesWords = [8]class{punct, lower, lower, lower, punct, number, space, newline}
	classesMarks = [8]class{punct, lower, lower, lower, lower, number, space, newline}
	classesGPT2  = [8]class{punct, lower, lower, lower, punct, number, space, space}
)

var (
	styleO200k  = style{splitter: cased, classes: classesCased, digits: 3, contraction: true, slash: true}
	styleTekken = style{splitter: cased, classes: classesCased, digits: 1, slash: true}

	styleCL100k = style{splitter: words, classes: classesWords, digits: 3, wholeEnd: true}
	// The same pattern as Hugging Face's library reads it: to Oniguruma, {1,3}+ is no possessive {1,3} but any number
	// of them.
	styleCL100kOniguruma = style{splitter: words, classes: classesWords, wholeEnd: true}

	styleLlama3 = style{splitter: words, classes: classesWords, digits: 3}
	styleQwen2  = style{splitter: words, classes: classesWords, digits: 1}
	styleQwen35 = style{splitter: words, classes: classesMarks, digits: 1}

	styleGPT2        = style{splitter: gpt2, classes: classesGPT2}
	styleGPT2Numbers = style{splitter: gpt2, classes: classesGPT2, isolated: true}
	styleGPT2Triples = style{splitter: gpt2, classes: classesGPT2, digits: 3, isolated: true}
	styleGPT2Digits  = style{splitter: gpt2, classes: classesGPT2, digits: 1, isolated: true}

	styleDeepSeek = style{splitter: deepSeek, classes: classesMarks, digits: 3, isolated: true}
)
