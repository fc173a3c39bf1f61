package dialect

// Usage as OpenAI reports it, and in the places and under the names that servers with a
// compatible API have for it:
//
//	usage                            OpenAI, most others; on each chunk from vLLM's continuous_usage_stats
//	x_groq.usage                     Groq
//	choices[].usage                  Moonshot; if there is one choice
//	prompt_tokens_details            cached_tokens; cache_write_tokens (OpenRouter)
//	completion_tokens_details        reasoning_tokens
//	prompt_cache_hit_tokens          DeepSeek
//	cached_tokens                    Moonshot
//	cache_read_input_tokens,
//	cache_creation_input_tokens      LiteLLM, for Anthropic's; here they are parts of prompt_tokens
//
// The reasoning of xAI's and of Gemini's compatible API is not part of completion_tokens,
// though it is billed as output; total_tokens has it.

// report reads the usage that comes next into ev. One that is unknown does not replace
// one that is known.
func (s *chatStream) report(ev *Event) error {
	u, err := s.usage()
	if u.Known {
		ev.Usage = u
	}
	return err
}

// usage reads a usage object. null, another kind, or an object without the two
// counts is unknown.
func (s *chatStream) usage() (Usage, error) {
	var prompt, completion, total, cached, written, reasoning int64
	var hasPrompt, hasCompletion bool
	most := func(dst *int64) error {
		n, _, err := s.json.integer()
		*dst = max(*dst, n)
		return err
	}
	err := s.json.object(func(name []byte) (err error) {
		switch string(name) {
		case `"prompt_tokens"`:
			prompt, hasPrompt, err = s.json.integer()
		case `"completion_tokens"`:
			completion, hasCompletion, err = s.json.integer()
		case `"total_tokens"`:
			err = most(&total)
		case `"prompt_cache_hit_tokens"`, `"cached_tokens"`, `"cache_read_input_tokens"`:
			err = most(&cached)
		case `"cache_creation_input_tokens"`:
			err = most(&written)
		case `"prompt_tokens_details"`:
			err = s.json.object(func(name []byte) error {
				switch string(name) {
				case `"cached_tokens"`:
					return most(&cached)
				case `"cache_write_tokens"`:
					return most(&written)
				}
				return s.json.dec.SkipValue()
			})
		case `"completion_tokens_details"`:
			err = s.json.object(func(name []byte) error {
				if string(name) == `"reasoning_tokens"` {
					return most(&reasoning)
				}
				return s.json.dec.SkipValue()
			})
		default:
			err = s.json.dec.SkipValue()
		}
		return err
	})
	if err != nil || !hasPrompt || !hasCompletion {
		return Usage{}, err
	}
	if beyond := total - prompt - completion; prompt <= total && completion <= total-prompt && beyond > 0 {
		reasoning = max(reasoning, beyond)
		completion += beyond
	}
	// Both are part of prompt_tokens.
	cached = min(cached, prompt)
	written = min(written, prompt-cached)
	return Usage{
		Known:         true,
		UncachedInput: prompt - cached - written,
		CacheRead:     cached,
		CacheWrite:    written,
		Output:        completion,
		Reasoning:     min(reasoning, completion),
	}, nil
}
