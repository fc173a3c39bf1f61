//go:build !unix

package main

// raiseFiles would let this process open more files; there is no such limit.
func raiseFiles() error { return nil }
