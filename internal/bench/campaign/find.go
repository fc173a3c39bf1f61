package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// targets are names of tests of one package.
type targets struct {
	pkg   string // such as ./budget
	names []string
}

// findTests returns the tests for which is says yes, of all packages below root.
func findTests(root string, is func(file *ast.File, f *ast.FuncDecl) bool) ([]targets, error) {
	found := make(map[string][]string)
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && file != root && (name == "testdata" || name[0] == '.' || name[0] == '_') {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(file, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		for _, decl := range parsed.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && is(parsed, f) {
				pkg := "./" + filepath.ToSlash(dir)
				found[pkg] = append(found[pkg], f.Name.Name)
			}
		}
		return nil
	})
	var all []targets
	for _, pkg := range slices.Sorted(maps.Keys(found)) {
		slices.Sort(found[pkg])
		all = append(all, targets{pkg, found[pkg]})
	}
	return all, err
}

// isFuzz says whether a function is a fuzz target.
func isFuzz(_ *ast.File, f *ast.FuncDecl) bool { return strings.HasPrefix(f.Name.Name, "Fuzz") }

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
