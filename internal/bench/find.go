package bench

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

// Tests are names of tests of one package, in the order of the alphabet.
type Tests struct {
	Pkg   string // such as ./budget
	Names []string
}

// FindTests returns the tests for which is says yes, of all packages below root, so that new ones
// take part in what runs them. Folders named testdata, and those that Go ignores, are left out.
func FindTests(root string, is func(file *ast.File, f *ast.FuncDecl) bool) ([]Tests, error) {
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
	var all []Tests
	for _, pkg := range slices.Sorted(maps.Keys(found)) {
		slices.Sort(found[pkg])
		all = append(all, Tests{pkg, found[pkg]})
	}
	return all, err
}

// IsFuzz says whether a function is a fuzz target.
func IsFuzz(_ *ast.File, f *ast.FuncDecl) bool { return strings.HasPrefix(f.Name.Name, "Fuzz") }
