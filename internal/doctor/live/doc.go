// Package live holds no code. Its tests have the doctor examine real Envoys, with the rendered
// configuration and with faults planted in it. They stand apart from the doctor's own, since the types
// of Envoy's API that they need would make its fuzzing a thousand times slower.
package live
