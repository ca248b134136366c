package deltalake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// clusteringDomain is the metadata domain that names the clustering columns.
const clusteringDomain = "delta.clustering"

// maxClustering is how many columns a table can be clustered by; Spark has the
// same bound.
const maxClustering = 4

// clusterPath is a clustering column as the log has it: physical names from the
// table's column down to the member.
type clusterPath []string

// UnmarshalJSON accepts a plain name, as in Delta's protocol, and a list of names,
// as Spark writes it.
func (p *clusterPath) UnmarshalJSON(data []byte) error {
	var name string
	if json.Unmarshal(data, &name) == nil {
		*p = clusterPath{name}
		return nil
	}
	var names []string
	if err := json.Unmarshal(data, &names); err != nil {
		return err
	}
	*p = names
	return nil
}

// clustering returns the table's clustering columns by their logical names, joined
// by a point, and whether it is a clustered table at all: one whose columns were
// taken away has none.
func (s *Snapshot) clustering() ([]string, bool, error) {
	d, ok := s.domains[clusteringDomain]
	if !ok {
		return nil, s.protocol.hasWriter("clustering"), nil
	}
	var c struct {
		Columns []clusterPath `json:"clusteringColumns"`
	}
	if err := json.Unmarshal([]byte(d.Configuration), &c); err != nil {
		return nil, true, fmt.Errorf("deltalake: the metadata domain %s is damaged: %w", clusteringDomain, err)
	}
	names := []string{}
	for _, p := range c.Columns {
		var logical []string
		fields := s.spec.schema.Fields
		for _, physical := range p {
			i := slices.IndexFunc(fields, func(f Field) bool {
				n, _ := f.physical(s.spec.mapped)
				return strings.EqualFold(n, physical)
			})
			if i < 0 {
				return nil, true, fmt.Errorf("deltalake: clustering column %q is not in the schema; the log is damaged", strings.Join(p, "."))
			}
			logical = append(logical, fields[i].Name)
			fields = fields[i].Type.Fields
		}
		names = append(names, strings.Join(logical, "."))
	}
	return names, true, nil
}

// ClusteringColumns returns the columns that Optimize clusters rows by, empty for
// a table without.
func (s *Snapshot) ClusteringColumns() []string {
	names, _, err := s.clustering()
	if err != nil {
		return nil
	}
	return names
}

// clusterable names what is wrong with clustering columns; partition are those of
// the table.
func (s *FileSpec) clusterable(columns []string) error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(s.partition) > 0 {
		fail("a table with partition columns cannot be clustered")
	}
	if len(columns) > maxClustering {
		fail("%d clustering columns are more than %d", len(columns), maxClustering)
	}
	collected := map[string]bool{}
	wants := s.wantsStats()
	var walk func(fields []Field, prefix string)
	walk = func(fields []Field, prefix string) {
		for i := range fields {
			if f := &fields[i]; f.Type.Kind == KindStruct {
				walk(f.Type.Fields, prefix+f.Name+".")
			} else {
				collected[prefix+f.Name] = wants(prefix + f.Name)
			}
		}
	}
	walk(s.data.Fields, "")
	for k, name := range columns {
		i := s.schema.Index(name)
		switch {
		case i < 0:
			fail("clustering column %q is no column of the table itself", name)
		case containsFold(columns[:k], name):
			fail("clustering column %q appears twice", name)
		case !hasBounds(s.schema.Fields[i].Type):
			fail("clustering column %q has type %s, which has no order in statistics", name, s.schema.Fields[i].Type)
		case !collected[s.schema.Fields[i].Name]:
			fail("clustering column %q has no statistics; name it in delta.dataSkippingStatsColumns or raise delta.dataSkippingNumIndexedCols", name)
		}
	}
	return errors.Join(errs...)
}

// hasBounds tells whether statistics keep bounds of a type.
func hasBounds(t *Type) bool { return t.primitive() && t.Kind != KindBoolean && t.Kind != KindBinary }

// clusteringAction returns the action that sets the clustering columns.
func (s *FileSpec) clusteringAction(columns []string) DomainMetadata {
	paths := [][]string{}
	for _, c := range columns {
		name, _ := s.schema.Fields[s.schema.Index(c)].physical(s.mapped)
		paths = append(paths, []string{name})
	}
	return DomainMetadata{Domain: clusteringDomain, Configuration: jsonText(map[string]any{"clusteringColumns": paths, "domainName": clusteringDomain})}
}

// ClusterBy changes the columns that rows are clustered by; without any, the table
// stays as it is but new files are not clustered. Files keep their order until
// Optimize rewrites them; those that an Optimize clustered by other columns only
// with OptimizeOptions.Full.
func (t *Table) ClusterBy(ctx context.Context, columns ...string) (*Snapshot, error) {
	for try := 0; ; try++ {
		s, err := t.Refresh(ctx)
		if err != nil {
			return nil, err
		}
		if err := s.spec.clusterable(columns); err != nil {
			return nil, fmt.Errorf("deltalake: cluster by: %w", err)
		}
		old, clustered, err := s.clustering()
		if err != nil {
			return nil, err
		}
		if clustered && slices.EqualFunc(old, columns, strings.EqualFold) {
			return s, nil
		}
		if err := s.haveStats(columns); err != nil {
			return nil, err
		}
		conf := s.metadata.clone().Configuration
		conf["delta.feature.clustering"] = "supported"
		p, err := neededProtocol(s.spec.schema, conf, s.protocol)
		if err != nil {
			return nil, err
		}
		c := Commit{Operation: "CLUSTER BY", Base: s, system: []DomainMetadata{s.spec.clusteringAction(columns)},
			Parameters: map[string]string{"oldClusteringColumns": strings.Join(old, ","), "newClusteringColumns": strings.Join(columns, ",")}}
		if p != s.protocol {
			c.Protocol = p
		}
		r, err := t.Commit(ctx, c)
		var conflict *ConflictError
		if err == nil {
			return r.Snapshot, nil
		}
		if !errors.As(err, &conflict) || try >= t.opts.Attempts {
			return nil, err
		}
	}
}

// haveStats checks that every file has statistics of columns.
func (s *Snapshot) haveStats(columns []string) error {
	for _, a := range s.Files() {
		var st fileStatistics
		if a.Stats != "" && json.Unmarshal([]byte(a.Stats), &st) != nil {
			st = fileStatistics{}
		}
		for _, c := range columns {
			name, _ := s.spec.schema.Fields[s.spec.schema.Index(c)].physical(s.spec.mapped)
			if _, ok := st.NullCount[name]; !ok {
				return fmt.Errorf("deltalake: cluster by: data file %s has no statistics of column %q; rewrite it first, for example with Update", a.Path, c)
			}
		}
	}
	return nil
}

// newSpec is NewFileSpec for changed metadata of the table; clustering columns keep
// their statistics.
func (s *Snapshot) newSpec(m *Metadata) (*FileSpec, error) {
	spec, err := NewFileSpec(m)
	if err == nil {
		spec.clustered = s.spec.clustered
	}
	return spec, err
}

// restoredClustering returns the action that brings the clustering columns of an
// older version back; none when they are the same.
func (s *Snapshot) restoredClustering(old *Snapshot) []DomainMetadata {
	was, had := old.domains[clusteringDomain]
	is, has := s.domains[clusteringDomain]
	switch {
	case had && was.Configuration != is.Configuration:
		return []DomainMetadata{was}
	case !had && has:
		if none := s.spec.clusteringAction(nil); none.Configuration != is.Configuration {
			return []DomainMetadata{none}
		}
	}
	return nil
}
