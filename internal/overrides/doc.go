// Package overrides is what the admin API puts above the budgets of the configuration
// file: another amount for a budget, or for one subject of it, until it is taken back.
//
// A [Set] is all of them. It does not change; [Set.Put] and [Set.Delete] return another
// one. [Set.Apply] puts it above the file's limits, [Set.Marshal] and [Parse] keep it in
// a file, and [Set.List] shows it. [ParseRequest] reads what a client sends, and
// [Request.Resolve] checks it against the budgets.
//
// An override belongs to a budget's name and a subject, and holds amounts by unit. What the
// budget does not count, or a subject that it is not counted per, makes it one without
// effect: it stays, and List says so. So a budget that is taken out of the file and
// comes back has it again.
//
// # The file
//
//	{"version": 1, "checksum": "crc32c:1a2b3c4d", "overrides": [{"budget": …, "subject": {…}, "amounts": {…}, …}]}
//
// The checksum is the CRC-32C (Castagnoli) of the list, without white space between its
// tokens. A file that is damaged is an error, since nobody may lose or gain by that.
package overrides
