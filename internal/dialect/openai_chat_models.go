package dialect

import "strings"

// chatModel is what the cost of a chat prompt depends on, by the model's family.
//
// There are two ways in which a conversation is written down for the model. The
// older one is that of OpenAI's cookbook. Reasoning models have the harmony
// format, which is published with gpt-oss: a message costs the same there, but an
// answer of the assistant also names its channel, and the reply is introduced by
// two tokens instead of three.
type chatModel struct {
	prefix  string // of the model's name
	harmony bool
	preface bool  // the system message of harmony is part of the reported prompt
	tools   int64 // tokens that tools add to the text which describes them
	image   imageCost
}

// What a message and a reply cost.
const (
	tokensPerMessage = 3 // besides its role: cookbook; in harmony <|start|>, <|message|>, <|end|>
	tokensPerName    = 1 // cookbook
	replyCookbook    = 3 // cookbook: <|start|>assistant<|message|>
	replyHarmony     = 2 // <|start|>assistant
	channelHarmony   = 2 // <|channel|>final
)

// What tools add. The first is known from openai-chat-tokens, and gives what the
// API said in every example of it and of the cookbook. The second is the
// difference to the two recordings of gpt-5-nano with tools, which agree on it
// within one token; what is behind it is not published. That the other models of
// gpt-5 have it, too, and those of o1 to o4 the first, is a guess.
const (
	toolsCookbook = 9
	toolsHarmony  = 91
)

// The image costs are those of OpenAI's guide "Images and vision". For gpt-5-mini,
// gpt-5-nano, and what is later than gpt-5.1, they are those which OpenAI's price
// calculator has and users have measured; the guide's are higher. Users have
// measured less than the guide's for o1, too, without a rule behind it.
//
// The first prefix that fits counts.
var chatModels = []chatModel{
	{prefix: "gpt-oss", harmony: true, preface: true, image: tiles(85, 170)},
	{prefix: "gpt-5-mini", harmony: true, tools: toolsHarmony, image: patches(120, 1536)},
	{prefix: "gpt-5-nano", harmony: true, tools: toolsHarmony, image: patches(150, 1536)},
	{prefix: "gpt-5.1-codex-mini", harmony: true, tools: toolsHarmony, image: patches(120, 1536)},
	{prefix: "gpt-5.1", harmony: true, tools: toolsHarmony, image: tiles(70, 140)},
	{prefix: "gpt-5.2", harmony: true, tools: toolsHarmony, image: patches(120, 1536)},
	{prefix: "gpt-5.3", harmony: true, tools: toolsHarmony, image: patches(120, 1536)},
	{prefix: "gpt-5.", harmony: true, tools: toolsHarmony, image: patches(120, 2500)},
	{prefix: "gpt-5", harmony: true, tools: toolsHarmony, image: tiles(70, 140)},
	{prefix: "o4-mini", harmony: true, tools: toolsCookbook, image: patches(172, 1536)},
	{prefix: "codex-mini", harmony: true, tools: toolsCookbook, image: patches(172, 1536)},
	{prefix: "o1", harmony: true, tools: toolsCookbook, image: tiles(75, 150)},
	{prefix: "o3", harmony: true, tools: toolsCookbook, image: tiles(75, 150)},
	{prefix: "gpt-4.1-mini", tools: toolsCookbook, image: patches(162, 1536)},
	{prefix: "gpt-4.1-nano", tools: toolsCookbook, image: patches(246, 1536)},
	{prefix: "gpt-4o-mini", tools: toolsCookbook, image: tiles(2833, 5667)},
	{prefix: "computer-use", tools: toolsCookbook, image: tiles(65, 129)},
	{prefix: "", tools: toolsCookbook, image: tiles(85, 170)}, // gpt-4o, 4.1, 4.5, and what is not known
}

// chatModelOf looks up a model. Vendors in front of its name, as in
// "azure/eu/gpt-4o" or "ft:gpt-4o", do not matter, nor does the case of letters.
func chatModelOf(name string) *chatModel {
	name = bareModel(name)
	for i := range chatModels {
		if strings.HasPrefix(name, chatModels[i].prefix) {
			return &chatModels[i]
		}
	}
	panic("dialect: the last model has no prefix, so it fits")
}

// bareModel is the name of a model in lower case, without what vendors put in front.
func bareModel(name string) string {
	name = strings.ToLower(name)
	vendor, _, _ := strings.Cut(name, ":") // a slash behind a colon belongs to a variant
	name = name[strings.LastIndexByte(vendor, '/')+1:]
	name = strings.TrimPrefix(name, "ft:")
	return strings.TrimPrefix(name, "openai.")
}

// reply is what introduces the model's reply.
func (m *chatModel) reply() int64 {
	if m.harmony {
		return replyHarmony
	}
	return replyCookbook
}
