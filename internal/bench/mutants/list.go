package main

// Packages and tests that many mutants name.
const (
	inBudget       = "./budget "
	inExchange     = "./extproc/exchange "
	inExtproc      = "./extproc "
	inDialect      = "./internal/dialect "
	inSSE          = "./internal/sse "
	inCoding       = "./internal/coding "
	inConversation = inExchange + "TestConversations/"
)

// Invariants, as ARCHITECTURE.md has them.
const (
	once      = "settled exactly once"
	ceiling   = "nothing is taken above the limit less the guard"
	allOrNone = "held on every limit or on none"
	delivered = "what is delivered fits into the hold"
	bytesSame = "delivered bytes are the upstream's"
	charged   = "what reached the server is charged"
	written   = "nothing leaves before it is in the store"
	seenAlike = "decision and upstream see the same request"
	notFree   = "what is not understood is not free"
	bounded   = "every buffer has a bound"
	matched   = "a limit concerns the requests that it matches"
	unknownIs = "an unknown balance is an error, not zero"
	shadowed  = "a limit that only watches changes nothing"
	windows   = "windows follow each other without gap or overlap"
	perReq    = "no request is granted more than a limit per request"
	panics    = "a panic ends its own exchange only, and charges its hold"
	refused   = "what must be refused is refused"
)

// mutants are the faults. A text that is replaced has as many lines as make it the only one.
var mutants = []mutant{
	// The ledger.
	{"a reservation settles again", once, "budget/reservation.go",
		"\tif level == settled {\n\t\treturn false\n\t}\n\tr.hold(settled, settled)\n\tcharge(level)", "\tr.hold(settled, settled)\n\tcharge(level)",
		[]string{inBudget + "TestSettleOnce"}},
	{"a counter gives what is wanted, not what there is", ceiling, "budget/row.go",
		"got := min(want, room)", "got := want", []string{inBudget + "TestHoldAfterOthersTook"}},
	{"two take the same tokens", ceiling, "budget/row.go",
		"if w.used.CompareAndSwap(used, used+fixed+got) {",
		// Slowly, else a busy machine may have one go on only when another is done.
		"for range 100 {\n_ = w.used.Load()\n}\nif w.used.Store(used + fixed + got); true {", []string{inBudget + "TestTakeIsAtomic"}},
	{"the guard is given away", ceiling, "budget/row.go",
		"w.ceiling.Store(n - guardOf(w.rule.Unit, n))", "w.ceiling.Store(n)", []string{inBudget + "TestAllOrNone"}},
	{"a growth is refused too late", ceiling, "budget/grow.go",
		"\t\tmost := has + max(0, w.left(t))\n\t\tlevel = min(level, most)", "\t\tmost := has + max(0, w.left(t)+1)\n\t\tlevel = min(level, most)", []string{inBudget + "TestGrowthAfterOthersTook"}},
	{"a refusal leaves holds on other limits", allOrNone, "budget/layers.go",
		"\t\t\tif !ok {\n\t\t\t\tls[i+1:].undo(c)", "\t\t\tif !ok {", []string{inBudget + "TestHoldAfterOthersTook"}},
	{"what is given back stays used", charged, "budget/row.go",
		"\tw.held.Add(-n)\n\tw.used.Add(-n)", "\tw.held.Add(-n)", []string{inBudget + "TestHoldAfterOthersTook", inBudget + "TestTakeIsAtomic"}},
	{"a settlement gives nothing back", charged, "budget/row.go",
		"w.used.Add(charged - held)", "_ = held", []string{inBudget + "TestSettleOnce"}},
	{"a balance that cannot be read is zero", unknownIs, "budget/load.go",
		"\tcase err != nil:\n\t\treturn 0, fmt.Errorf(\"reading the store: %w\", err)", "\tcase err != nil:\n\t\treturn absent, nil", []string{inBudget + "TestStoreCannotBeRead"}},
	{"one condition of many suffices", matched, "budget/match.go",
		"\t\tif !r.match[i].holds(q) {\n\t\t\treturn false\n\t\t}", "\t\tif r.match[i].holds(q) {\n\t\t\treturn true\n\t\t}", []string{inBudget + "TestMatch"}},
	{"the widest limit per request counts", perReq, "budget/perrequest.go",
		"if room < c.most {", "if room > c.most {", []string{inBudget + "TestPerRequest"}},
	{"an hour ends a second early", windows, "budget/period.go",
		"End: time.Unix(start+size, 0).In(loc)}", "End: time.Unix(start+size-1, 0).In(loc)}", []string{inBudget + "TestWindow"}},
	{"a limit that only watches refuses", shadowed, "budget/layers.go",
		"if fixed == 0 && (!counts || d.none()) || !w.rule.enforces() {", "if fixed == 0 && (!counts || d.none()) {", []string{inConversation + "action_shadow_denied"}},
	{"a hold is told before it is written", written, "budget/reservation.go",
		"\tif b == nil || b.written.Load() {\n\t\treturn nil", "\tif b == nil || b != nil {\n\t\treturn nil", []string{inExtproc + "TestWrittenBeforeItLeaves"}},

	// The state machine.
	{"an exchange settles at each of its ends", once, "extproc/exchange/exchange.go",
		"\tdefer func() { x.state = stateEnded }()\n", "", []string{inExchange + "FuzzOrder"}},
	{"text leaves that no limit grants", delivered, "extproc/exchange/stream.go",
		"Spend(x.withHidden(total + x.toolAhead(total))); !ok {", "Spend(x.withHidden(total + x.toolAhead(total))); !ok && total < 0 {", []string{inConversation + "cut_inside_message", inExchange + "FuzzOrder"}},
	{"a cut lets the refused event pass", delivered, "extproc/exchange/stream.go",
		"\t\tif !ok {\n\t\t\treturn x.cut(x.refusedBy.Limit, run.bytes(x), eos)", "\t\tif !ok {\n\t\t\trun.add(x, block)\n\t\t\treturn x.cut(x.refusedBy.Limit, run.bytes(x), eos)", []string{inConversation + "cut_inside_message"}},
	{"no look ahead", delivered, "extproc/exchange/stream.go",
		"\tx.refusedBy = d\n\treturn ok\n", "\tx.refusedBy = d\n\treturn ok || n > 0\n", []string{inConversation + "cut_ahead"}},
	{"the chunk that nobody asked for stays", bytesSame, "extproc/exchange/stream.go",
		"return !x.event.UsageOnly || x.request.WantsUsage || x.unseen, true", "return true, true", []string{inConversation + "stream_usage"}},
	{"bytes before one that is left out are lost", bytesSame, "extproc/exchange/stream.go",
		"\tif r.end != b.Start && r.end > r.start {\n\t\tr.flush(x)\n\t}\n", "", []string{inExchange + "FuzzAnswer"}},
	{"what arrives behind a cut is free", charged, "extproc/exchange/stream.go",
		"\t\tx.parser.Feed(body)\n\t\tx.countRest(eos)\n", "\t\tx.parser.Feed(body)\n", []string{inConversation + "cut_between_messages"}},
	{"the rest of a cut message is free", charged, "extproc/exchange/stream.go",
		"\t\tx.countRest(eos)\n\t}\n\tx.closing = out", "\t}\n\tx.closing = out", []string{inConversation + "cut_inside_message"}},
	{"an answer of unknown cost is free", charged, "extproc/exchange/exchange.go",
		"\tcase x.unknown || x.goesOn():\n", "\tcase x.goesOn():\n", []string{inConversation + "unary_too_long"}},
	{"an unary answer that breaks off is free", charged, "extproc/exchange/pieces.go",
		"\t\tx.unknown = x.unseen || x.uncut()\n", "", []string{inConversation + "abort_unary"}},
	{"a report from before the last text stands", charged, "extproc/exchange/exchange.go",
		"if final || x.reported.Output >= used.Output {", "if final || x.reported.Output > 0 {", []string{inConversation + "usage_early"}},
	{"any usage is believed", charged, "extproc/exchange/stream.go",
		"return uint64(u.Output) <= maxReported && uint64(u.Input()) <= maxReported", "return true", []string{inExchange + "TestHostile/answers"}},
	{"lines that are none are free", notFree, "extproc/exchange/stream.go",
		"case \"\", \"event\", \"id\", \"retry\", \"\\ufeff\":\n\t\tdefault:", "default:\n\t\tcase \"none\":", []string{inExchange + "TestQuiet"}},
	{"an answer that is not read is free", notFree, "extproc/exchange/stream.go",
		"\tx.guess(len(body))\n\tif d, ok", "\tif d, ok", []string{inExchange + "TestUnreadAnswerEnds"}},
	{"any body is read", bounded, "extproc/exchange/collect.go",
		"n > x.policy.MaxRequest {", "n > 1<<40 {", []string{inConversation + "too_large"}},
	{"any answer is kept", bounded, "extproc/exchange/exchange.go",
		"if x.tooLong || x.lean || len(x.answer)+len(body) > x.policy.MaxAnswer {", "if x.tooLong || x.lean {", []string{inExchange + "TestMemoryIsBounded"}},
	{"the log repeats whole paths", bounded, "extproc/exchange/exchange.go",
		"rec.Outcome, rec.Path = o, clip(rec.Path, maxPath)", "rec.Outcome = o", []string{inExchange + "TestRecordIsBounded"}},
	{"a missing identity passes", refused, "extproc/exchange/exchange.go",
		"\tcase ids.missing != \"\":", "\tcase ids.missing == \"\\x00\":", []string{inConversation + "identity_required"}},
	{"the first of different identities counts", refused, "extproc/exchange/identity.go",
		"\t\t\treturn \"\", false", "\t\t\treturn value, true", []string{inExchange + "TestIdentify"}},
	{"an unknown API key hides a known one", refused, "extproc/exchange/apikey.go",
		"\t\t\tcase s == nil:\n", "\t\t\tcase s == nil:\n\t\t\t\treturn nil\n", []string{inExchange + "TestAPIKey"}},
	{"a signed request is altered", refused, "extproc/exchange/signed.go",
		"\tx.request.LeaveUsage()\n", "", []string{inConversation + "signed_stream"}},
	{"a signed request is held in part", refused, "extproc/exchange/signed.go",
		"\tq.Whole = true\n", "", []string{inConversation + "signed_unary_denied"}},
	{"a compressed answer passes unread", refused, "extproc/exchange/exchange.go",
		"\t\tcase refusal != \"\":", "\t\tcase refusal == \"\\x00\":", []string{inConversation + "upstream_unknown_coding"}},
	{"a request is bounded by its compressed size only", bounded, "extproc/exchange/decode_request.go",
		"appendUpTo(plain, b, most)", "appendUpTo(plain, b, most<<20)", []string{inConversation + "coded_request_too_large"}},
	{"what a coding expands to has no bound", bounded, "internal/coding/decoder.go",
		"s.made > FreeBytes+ratio*d.read", "s.made > 1<<40+ratio*d.read", []string{inCoding + "TestBombs"}},
	{"what is decoded twice may grow as much in between", bounded, "internal/coding/decoder.go",
		"ratio = MaxInner", "ratio = MaxRatio", []string{inCoding + "TestBombOfTime"}},
	{"compressed data may end anywhere", refused, "internal/coding/stage.go",
		"\t\treturn ErrTruncated\n", "\t\treturn io.EOF\n", []string{inCoding + "TestTruncated", inConversation + "coded_request_truncated"}},
	{"a decoder is left behind", bounded, "extproc/exchange/exchange.go",
		"\tx.stopDecoding()\n", "", []string{inExchange + "TestDecodersEnd"}},
	{"a piece of a prompt passes before its decision", refused, "extproc/exchange/collect.go",
		"return nil, false, x.send(clearedRequestBody)", "return nil, false, x.send(continueSameBody)", []string{inConversation + "mode_request_streamed_denied"}},

	// Dialects.
	{"keys in other letter case are skipped", seenAlike, "internal/dialect/json.go",
		"\t\tif foldsTo(plain, k) {", "\t\tif foldsTo(plain, k) && escaped {", []string{inDialect + "TestRequestRefused"}},
	{"data behind the request is skipped", seenAlike, "internal/dialect/json.go",
		"err = &BadRequest{\"the request body has data after its JSON value\"}", "err = nil", []string{inDialect + "TestRequestRefused"}},
	{"the smaller of two caps counts", seenAlike, "internal/dialect/openai_request.go",
		"p.r.MaxOutput = max(p.r.MaxOutput, n)", "p.r.MaxOutput = min(p.r.MaxOutput, n)", []string{inDialect + "TestRequestValues"}},
	{"nobody is asked for usage", seenAlike, "internal/dialect/openai_request.go",
		"r.ask = []edit{{o.usage.start, o.usage.end, \"true\"}}", "r.ask = []edit{{o.usage.start, o.usage.end, \"false\"}}", []string{inDialect + "TestRequestEdits"}},
	{"data that is not understood is free", notFree, "internal/dialect/openai_chat.go",
		"\t\tev.reset()\n\t\tev.Texts = append(ev.Texts, Text{MaxSlots - 1, data})", "\t\tev.reset()", []string{inDialect + "TestStreamTexts"}},
	{"data behind an event's JSON is free", notFree, "internal/dialect/openai_chat.go",
		"\t\treturn errTrailing\n", "\t\terr = nil\n", []string{inDialect + "TestStreamShapes"}},
	{"data behind a usual event's JSON is free", notFree, "internal/dialect/openai_chat_plain.go",
		" && pastSpace(b, i) == len(b)", "", []string{inDialect + "TestPlainChunk"}},
	{"two texts of a usual event are one", charged, "internal/dialect/openai_chat_plain.go",
		"\tif c.text.end > 0 {\n\t\treturn -1\n\t}\n", "", []string{inDialect + "TestPlainChunk", inDialect + "TestPlainChunkChanged"}},
	{"an event that begins alike ends alike", charged, "internal/dialect/openai_chat_plain.go",
		", &c.number, &c.reason}", "}", []string{inDialect + "TestPlainChunkHead"}},
	{"a choice is ended twice", "an answer that is cut ends as the API says", "internal/dialect/openai_chat.go",
		"\t\tif i < len(s.finished) && s.finished[i] {\n\t\t\tcontinue\n\t\t}\n", "", []string{inDialect + "TestClose"}},
	{"texts without number are told apart", bounded, "internal/dialect/openai_chat.go",
		"\tif len(*s) == MaxSlots-1 {\n\t\treturn MaxSlots - 1\n\t}\n", "", []string{inDialect + "TestStreamSlotsAreBounded"}},

	// Responses in the background.
	{"two settle a response in the background", once, "extproc/exchange/background.go",
		"\tif b.kept[c.key.id] != c {\n\t\treturn false, false\n\t}\n\tdelete(b.kept, c.key.id)\n", "", []string{inExchange + "TestBackgroundOnce"}},
	{"any number of responses goes on in the background", bounded, "extproc/exchange/background.go",
		"len(b.kept) >= maxBackground", "len(b.kept) >= 1<<40", []string{inExchange + "TestBackgroundBounded"}},
	{"a short answer with the id of a long one settles it", charged, "extproc/exchange/background.go",
		"\t\tc.doubted = true\n", "", []string{inConversation + "responses_background_same_id"}},
	{"whatever upstream is asked settles a response for less", charged, "extproc/exchange/background.go",
		"\tif by != c.key {\n", "\tif false {\n", []string{inConversation + "responses_background_elsewhere"}},
	{"a response in the background stays one of the streams at once", charged, "budget/leave.go",
		"\t\tw.settle(r.charge.when, r.charge.of(Streams), 0)\n", "", []string{inBudget + "TestLeaveStreams"}},
	{"what goes on is not charged when the server ends", charged, "extproc/background.go",
		"\t\ts.endAll(background.Close(time.Now()))\n", "\t\tbackground.Close(time.Now())\n", []string{inExtproc + "TestBackgroundForgotten"}},

	// Event streams.
	{"an event may be of any size", bounded, "internal/sse/parser.go",
		"if end-p.start-p.lead > cmp.Or(p.max, DefaultMaxBlock) {", "if end-p.start-p.lead > 1<<40+cmp.Or(p.max, DefaultMaxBlock) {", []string{inSSE + "TestLimitBySplit", inConversation + "event_too_large"}},
	{"a CRLF that is parted is two line ends", bytesSame, "internal/sse/parser.go",
		"\t\tif chunk[0] == '\\n' {\n\t\t\tp.line++", "\t\tif chunk[0] == '\\n' && held < 0 {\n\t\t\tp.line++", []string{inSSE + "TestLineEnds"}},
	{"what has no blank line at the end is lost", bytesSame, "internal/sse/parser.go",
		"if p.err != nil || p.Pending() == 0 {", "if p.err != nil || p.Pending() >= 0 {", []string{inSSE + "TestScripts"}},
	{"the first of several data fields is all", charged, "internal/sse/parser.go",
		"\tif p.lines > 1 {\n\t\tb.Data", "\tif p.lines > 1<<40 {\n\t\tb.Data", []string{inSSE + "TestScripts"}},

	// The driver.
	{"a settlement is not made", once, "extproc/session.go",
		"if r.Settle != nil && !r.Settle.Apply() {", "if r.Settle != nil && r.Send == nil && r.Record == nil {", []string{inExtproc + "TestClientAbort"}},
	{"a message leaves before its hold is written", written, "extproc/session.go",
		"err := e.reservation.Wait(e.stream.Context())", "err := e.stream.Context().Err()", []string{inExtproc + "TestWrittenBeforeItLeaves"}},
	{"a store that fails stops nothing", written, "extproc/session.go",
		"\te.letKept(r)\n\tif err != nil {\n", "\te.letKept(r)\n\tif err != nil && r.Send == nil {\n", []string{inExtproc + "TestStoreFails"}},
	{"a panic leaves its hold", panics, "extproc/session.go",
		"\te.flushAfter()\n\tif e.reservation != nil {\n\t\te.reservation.SettleHold()\n\t}\n", "\te.flushAfter()\n", []string{inExtproc + "TestPanic"}},
	{"a cut waits for ever", "every wait has a deadline", "extproc/session.go",
		"\tif r.Linger {\n\t\te.lingering, e.deadline = true, time.Now().Add(e.server.grace)\n\t\te.alarm.Reset(e.server.grace)\n\t}\n", "", []string{inExtproc + "TestLingerEnds"}},
}
