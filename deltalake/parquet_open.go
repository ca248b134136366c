package deltalake

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
)

// pqFile is an open Parquet file: its footer and its schema as a tree.
type pqFile struct {
	store Store
	path  string
	size  int64
	meta  *pqMeta
	root  *pqCol
	tail  []byte // the file's last bytes, as read with the footer
}

// pqCol is one node of the file's schema.
type pqCol struct {
	pqElement
	leaf   int // index of the column chunk; -1 for groups
	def    uint8
	depth  uint8 // repetition level: repeated nodes at and above
	parent *pqCol
	nodes  []*pqCol
}

const footerGuess = 64 << 10

// openParquet reads the footer. size is the file's size as the log tells it; 0
// asks the store.
func openParquet(ctx context.Context, store Store, path string, size int64) (*pqFile, error) {
	f := &pqFile{store: store, path: path, size: size}
	fail := func(err error) (*pqFile, error) { return nil, fmt.Errorf("deltalake: read %s: %w", path, err) }
	if size <= 0 {
		info, err := store.Stat(ctx, path)
		if err != nil {
			return fail(err)
		}
		f.size = info.Size
	}
	if f.size < 12 {
		return fail(fmt.Errorf("%d bytes are no Parquet file", f.size))
	}
	n := min(f.size, footerGuess)
	tail, err := store.GetRange(ctx, path, f.size-n, n)
	if err != nil {
		return fail(err)
	}
	magic := string(tail[n-4:])
	if magic == "PARE" {
		return fail(&UnsupportedError{"read", "Parquet encryption"})
	}
	if magic != "PAR1" {
		return fail(fmt.Errorf("it does not end as a Parquet file"))
	}
	length := int64(binary.LittleEndian.Uint32(tail[n-8:]))
	if length > f.size-12 {
		return fail(fmt.Errorf("its footer claims %d of %d bytes", length, f.size))
	}
	if length+8 > n {
		if tail, err = store.GetRange(ctx, path, f.size-8-length, length+8); err != nil {
			return fail(err)
		}
		n = length + 8
	}
	f.tail = tail
	if f.meta, err = parseFooter(tail[n-8-length : n-8]); err != nil {
		return fail(err)
	}
	if err := f.tree(); err != nil {
		return fail(err)
	}
	return f, nil
}

// tree builds the schema tree and checks the row groups against it.
func (f *pqFile) tree() error {
	els := f.meta.elements
	if len(els) == 0 {
		return errThrift
	}
	leaves := 0
	pos := 0
	var build func(parent *pqCol, level int) (*pqCol, error)
	build = func(parent *pqCol, level int) (*pqCol, error) {
		if pos >= len(els) || level > 64 {
			return nil, errThrift
		}
		c := &pqCol{pqElement: els[pos], leaf: -1, parent: parent}
		pos++
		if parent != nil {
			c.def, c.depth = parent.def, parent.depth
			if c.rep == 1 || c.rep == 2 {
				c.def++
			}
			if c.rep == 2 {
				c.depth++
			}
		}
		if c.typ >= 0 && c.children == 0 && parent != nil {
			c.leaf = leaves
			leaves++
			return c, nil
		}
		for range c.children {
			n, err := build(c, level+1)
			if err != nil {
				return nil, err
			}
			c.nodes = append(c.nodes, n)
		}
		return c, nil
	}
	root, err := build(nil, 0)
	if err != nil || pos != len(els) {
		return errThrift
	}
	f.root = root
	var rows int64
	for _, g := range f.meta.groups {
		if g.rows < 0 || len(g.chunks) != leaves {
			return fmt.Errorf("%w: a row group has %d columns instead of %d", errThrift, len(g.chunks), leaves)
		}
		rows += g.rows
		for i := range g.chunks {
			c := &g.chunks[i]
			start := c.start()
			switch {
			case c.external:
				return &UnsupportedError{"read", "a Parquet column in another file"}
			case c.isCipher:
				return &UnsupportedError{"read", "Parquet encryption"}
			case c.packed < 0 || start < 0 || start > f.size || c.packed > f.size-start || c.values < 0:
				return fmt.Errorf("%w: a column chunk lies outside the file", errThrift)
			case c.values < g.rows: // each row has a slot in each column, be it for a null
				return fmt.Errorf("%w: a column chunk holds %d values for %d rows", errThrift, c.values, g.rows)
			}
		}
	}
	if rows != f.meta.rows {
		return fmt.Errorf("%w: row groups hold %d rows, the footer says %d", errThrift, rows, f.meta.rows)
	}
	return nil
}

// start is where the chunk's first page is.
func (c *pqChunk) start() int64 {
	if c.dictOff > 0 && c.dictOff < c.dataOff {
		return c.dictOff
	}
	return c.dataOff
}

// colPlan says how one column of the table is read from one file.
type colPlan struct {
	typ      *Type
	node     *pqCol // nil: the file lacks it and it reads as null
	list     *pqCol // of lists and maps: the repeated group, or node itself in old two-level lists
	first    int    // leaf whose levels tell validity and lengths
	leafSlot int    // of a leaf: index among the plan's leaves
	children []*colPlan
}

// planner resolves table columns in a file.
type planner struct {
	byID   bool // column mapping mode id
	mapped bool
	leaves []*pqCol
	slots  map[int]int // leaf index -> slot
}

func (p *planner) slot(c *pqCol) int {
	if s, ok := p.slots[c.leaf]; ok {
		return s
	}
	s := len(p.leaves)
	p.slots[c.leaf] = s
	p.leaves = append(p.leaves, c)
	return s
}

// find returns the child of group that holds field f.
func (p *planner) find(group *pqCol, f *Field) *pqCol {
	name, id := f.physical(p.mapped)
	if p.byID && id != 0 {
		for _, n := range group.nodes {
			if n.hasID && n.fieldID == int(id) {
				return n
			}
		}
		return nil
	}
	for _, n := range group.nodes {
		if n.name == name {
			return n
		}
	}
	if !p.mapped {
		for _, n := range group.nodes {
			if strings.EqualFold(n.name, name) {
				return n
			}
		}
	}
	return nil
}

// anyLeaf returns a leaf below c, one that is not repeated further if possible.
func anyLeaf(c *pqCol) *pqCol {
	if c.leaf >= 0 {
		return c
	}
	var best *pqCol
	for _, n := range c.nodes {
		if l := anyLeaf(n); l != nil && (best == nil || l.depth < best.depth) {
			best = l
		}
	}
	return best
}

// plan resolves a type against a node.
func (p *planner) plan(t *Type, node *pqCol, name string) (*colPlan, error) {
	if t.void {
		node = nil
	}
	cp := &colPlan{typ: t, node: node}
	if node == nil {
		return cp, nil
	}
	mismatch := func() error {
		return fmt.Errorf("deltalake: column %q is %s in the table and something else in the file", name, t)
	}
	switch t.Kind {
	case KindStruct:
		if node.leaf >= 0 {
			return nil, mismatch()
		}
		for i := range t.Fields {
			f := &t.Fields[i]
			c, err := p.plan(f.Type, p.find(node, f), name+"."+f.Name)
			if err != nil {
				return nil, err
			}
			cp.children = append(cp.children, c)
		}
		cp.first = -1
		for _, c := range cp.children { // prefer a leaf that is read anyway
			if c.node != nil && p.leaves[c.first].depth == node.depth {
				cp.first = c.first
				break
			}
		}
		if cp.first < 0 {
			l := anyLeaf(node)
			if l == nil {
				return nil, mismatch()
			}
			cp.first = p.slot(l)
		}
	case KindList:
		elem := node
		switch {
		case node.rep == 2: // a repeated field by itself
			cp.list = node
		case len(node.nodes) == 1 && node.nodes[0].rep == 2:
			cp.list = node.nodes[0]
			if elem = cp.list; elem.wraps(node, t.Elem) {
				elem = elem.nodes[0]
			}
		default:
			return nil, mismatch()
		}
		c, err := p.plan(t.Elem, elem, name+".element")
		if err != nil {
			return nil, err
		}
		cp.children = []*colPlan{c}
		cp.first = c.first
	case KindMap:
		if len(node.nodes) != 1 || node.nodes[0].rep != 2 || len(node.nodes[0].nodes) != 2 {
			return nil, mismatch()
		}
		cp.list = node.nodes[0]
		for i, et := range []*Type{t.Key, t.Elem} {
			c, err := p.plan(et, cp.list.nodes[i], name+[]string{".key", ".value"}[i])
			if err != nil {
				return nil, err
			}
			cp.children = append(cp.children, c)
		}
		cp.first = cp.children[0].first
	default:
		if node.leaf < 0 {
			return nil, mismatch()
		}
		if err := convertible(node, t); err != nil {
			return nil, fmt.Errorf("deltalake: column %q: %w", name, err)
		}
		cp.leafSlot = p.slot(node)
		cp.first = cp.leafSlot
	}
	return cp, nil
}

// wraps tells whether c, the repeated field of a list, only wraps the elements. Old
// writers left the wrapper out: then c is the element, which shows by its name, or
// because what is in it could be no element of the table's type.
func (c *pqCol) wraps(list *pqCol, elem *Type) bool {
	if c.leaf >= 0 || len(c.nodes) != 1 || c.name == "array" || c.name == list.name+"_tuple" {
		return false
	}
	return elem.Kind != KindStruct || c.nodes[0].leaf < 0
}

// convertible tells whether values of a leaf can be read as type t.
func convertible(c *pqCol, t *Type) error {
	ok := false
	switch t.Kind {
	case KindBoolean:
		ok = c.typ == pqBoolean
	case KindByte, KindShort, KindInteger, KindDate:
		ok = c.typ == pqInt32 && !c.unsigned
	case KindLong:
		ok = (c.typ == pqInt32 || c.typ == pqInt64) && !c.unsigned
	case KindTimestamp:
		ok = c.typ == pqInt64 || c.typ == pqInt96
	case KindTimestampNTZ:
		ok = c.typ == pqInt64 || c.typ == pqInt96 || c.typ == pqInt32
	case KindFloat:
		ok = c.typ == pqFloat
	case KindDouble:
		ok = c.typ == pqDouble || c.typ == pqFloat || c.typ == pqInt32
	case KindDecimal:
		ok = (c.typ == pqInt32 || c.typ == pqInt64 || c.typ == pqBytes || c.typ == pqFixed) && c.scale >= 0 && c.scale <= 38
	case KindString, KindBinary:
		ok = c.typ == pqBytes || c.typ == pqFixed
	}
	if !ok {
		names := [...]string{"boolean", "int32", "int64", "int96", "float", "double", "byte array", "fixed byte array"}
		name := "an unknown type"
		if c.typ >= 0 && c.typ < len(names) {
			name = names[c.typ]
		}
		return fmt.Errorf("the file holds %s, which cannot be read as %s", name, t)
	}
	return nil
}
