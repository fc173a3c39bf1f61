package main

import (
	"go/ast"
	"strings"
)

// isProperty says whether a function is a test that uses rapid, itself or by a function
// of its file.
func isProperty(file *ast.File, f *ast.FuncDecl) bool {
	if !strings.HasPrefix(f.Name.Name, "Test") {
		return false
	}
	checks := make(map[string]bool) // functions that use it
	for _, decl := range file.Decls {
		if g, ok := decl.(*ast.FuncDecl); ok && g.Recv == nil && callsRapid(g) {
			checks[g.Name.Name] = true
		}
	}
	found := checks[f.Name.Name]
	ast.Inspect(f, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && checks[id.Name] {
			found = true
		}
		return !found
	})
	return found
}

func callsRapid(f *ast.FuncDecl) (found bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, ok := s.X.(*ast.Ident)
		found = found || ok && pkg.Name == "rapid" && (s.Sel.Name == "Check" || s.Sel.Name == "MakeCheck")
		return true
	})
	return found
}
