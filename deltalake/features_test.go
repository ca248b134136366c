package deltalake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// storeList is every file of a store.
func storeList(t *testing.T, store Store) []string {
	t.Helper()
	var out []string
	for info, err := range store.List(context.Background(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, info.Path)
	}
	return out
}

// Every feature that this package writes can be asked for when a table is made and
// on a table that has rows, and every operation works with it.
func TestWriterFeatures(t *testing.T) {
	ctx := context.Background()
	annotated := func(key, value string) *Schema {
		s := trackedBatch(nil).Schema
		s.Fields = append(s.Fields, Field{Name: "more", Type: Of(KindLong), Nullable: true, Metadata: map[string]json.RawMessage{key: json.RawMessage(jsonText(value))}})
		return s
	}
	for feature, how := range map[string]struct {
		props  map[string]string
		schema *Schema // only when the table is made
		only   bool    // rows can only be added
	}{
		"appendOnly":          {props: map[string]string{"delta.appendOnly": "true"}, only: true},
		"invariants":          {schema: annotated("delta.invariants", `{"expression":{"expression":"more IS NULL"}}`)},
		"checkConstraints":    {props: map[string]string{"delta.feature.checkConstraints": "supported"}},
		"changeDataFeed":      {props: map[string]string{"delta.enableChangeDataFeed": "true"}},
		"generatedColumns":    {schema: annotated("delta.generationExpression", "key + 1")},
		"allowColumnDefaults": {schema: annotated("CURRENT_DEFAULT", "7")},
		"identityColumns":     {schema: &Schema{append(trackedBatch(nil).Schema.Fields, Identity("id", 1, 1))}},
		"columnMapping":       {props: map[string]string{"delta.columnMapping.mode": "name"}},
		"deletionVectors":     {props: map[string]string{"delta.enableDeletionVectors": "true"}},
		"rowTracking":         {props: map[string]string{"delta.enableRowTracking": "true"}},
		"domainMetadata":      {props: map[string]string{"delta.feature.domainMetadata": "supported"}},
		"inCommitTimestamp":   {props: map[string]string{"delta.enableInCommitTimestamps": "true"}},
		"typeWidening":        {props: map[string]string{"delta.enableTypeWidening": "true"}},
		"timestampNtz":        {schema: &Schema{append(trackedBatch(nil).Schema.Fields, Col("at", Of(KindTimestampNTZ)))}},
		"v2Checkpoint":        {props: map[string]string{"delta.checkpointPolicy": "v2", "delta.checkpointInterval": "2"}},
		"vacuumProtocolCheck": {props: map[string]string{"delta.feature.vacuumProtocolCheck": "supported"}},
		"clustering":          {props: map[string]string{"delta.feature.clustering": "supported"}},
	} {
		for _, late := range []bool{false, true} {
			if late && how.props == nil {
				continue
			}
			t.Run(fmt.Sprint(feature, "/late=", late), func(t *testing.T) {
				store := NewMemoryStore(nil)
				o := CreateOptions{Schema: how.schema, Properties: how.props}
				if o.Schema == nil {
					o.Schema = trackedBatch(nil).Schema
				}
				if late {
					o.Properties = nil
				}
				tbl, err := Create(ctx, store, o)
				if err != nil {
					t.Fatal(err)
				}
				add := func(from int64) {
					t.Helper()
					if _, err := tbl.Append(ctx, Batches(trackedBatch(map[int64]int64{from: 1, from + 1: 2, from + 2: 3})), WriteOptions{}); err != nil {
						t.Fatal(err)
					}
				}
				add(0)
				if late {
					props := map[string]*string{}
					for k, v := range how.props {
						props[k] = &v
					}
					if _, err := tbl.SetProperties(ctx, props); err != nil {
						t.Fatal(err)
					}
				}
				if p := tbl.Latest().Protocol(); !p.hasWriter(feature) || readerFeature(feature) && p.MinReaderVersion < 2 {
					t.Fatalf("protocol %s lacks %s", jsonText(p), feature)
				}
				for k := range tbl.Latest().Metadata().Configuration {
					if strings.HasPrefix(k, "delta.feature.") {
						t.Errorf("the metadata keeps %s", k)
					}
				}
				add(10)
				where := mustExpr(t, "key = 1 OR key = 11")
				steps := map[string]func() error{
					"update": func() error { _, err := tbl.Update(ctx, map[string]*Expr{"val": mustExpr(t, "9")}, where); return err },
					"delete": func() error { _, err := tbl.Delete(ctx, mustExpr(t, "key = 2")); return err },
					"merge": func() error {
						_, err := tbl.Merge(ctx, Merge{Source: Batches(trackedBatch(map[int64]int64{0: 5, 77: 6})), On: mustExpr(t, "target.key = source.key"),
							Clauses: []MergeClause{{Action: MatchedUpdate}, {Action: NotMatchedInsert}}})
						return err
					},
				}
				for _, what := range []string{"update", "delete", "merge"} {
					files := storeList(t, store)
					err := steps[what]()
					if how.only {
						if err == nil || !strings.Contains(err.Error(), "delta.appendOnly") || !slices.Equal(files, storeList(t, store)) {
							t.Fatalf("%s: %v, want a refusal that leaves nothing", what, err)
						}
					} else if err != nil {
						t.Fatal(what, err)
					}
				}
				if _, err := tbl.Optimize(ctx, OptimizeOptions{}); err != nil {
					t.Fatal(err)
				}
				if err := tbl.WriteCheckpoint(ctx, tbl.Latest()); err != nil {
					t.Fatal(err)
				}
				want := []int64{0, 1, 10, 11, 12, 77}
				if how.only {
					want = []int64{0, 1, 2, 10, 11, 12}
				}
				if tbl, err = Open(ctx, store, TableOptions{}); err != nil {
					t.Fatal(err)
				}
				if got := longs(t, tbl, "key"); !slices.Equal(got, want) {
					t.Fatalf("keys %v, want %v", got, want)
				}
				if feature == "inCommitTimestamp" && late {
					conf := tbl.Latest().Metadata().Configuration
					if conf["delta.inCommitTimestampEnablementVersion"] != "2" || conf["delta.inCommitTimestampEnablementTimestamp"] == "" {
						t.Fatal(conf)
					}
				}
			})
		}
	}
}

// What this package does not write is refused by its name: when a table is made, on
// a table that exists, and on a table of others that has it; nothing is left.
func TestRefusedFeatures(t *testing.T) {
	ctx := context.Background()
	props := map[string]map[string]string{
		"icebergCompatV1": {"delta.enableIcebergCompatV1": "true"}, "icebergCompatV2": {"delta.enableIcebergCompatV2": "true"},
		"icebergCompatV3": {"delta.enableIcebergCompatV3": "true"}, "icebergWriterCompatV1": {"delta.enableIcebergWriterCompatV1": "true"},
		"universalFormat": {"delta.universalFormat.enabledFormats": "iceberg"}, "variantShredding": {"delta.enableVariantShredding": "true"},
		"checkpointProtection":       {"delta.requireCheckpointProtectionBeforeVersion": "3"},
		"coordinatedCommits-preview": {"delta.coordinatedCommits.commitCoordinator-preview": "x"},
	}
	for _, f := range []string{"variantType", "variantType-preview", "collations", "collations-preview", "catalogManaged", "catalogOwned-preview", "materializePartitionColumns", "redirectReaderWriter", "madeUp"} {
		props[f] = map[string]string{"delta.feature." + f: "supported"}
	}
	for _, feature := range slices.Sorted(maps.Keys(props)) {
		t.Run(feature, func(t *testing.T) {
			refused := func(what string, err error) {
				t.Helper()
				var u *UnsupportedError
				if !errors.As(err, &u) || !strings.Contains(err.Error(), feature) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s: %v, want one sentence that names %s", what, err, feature)
				}
			}
			store := NewMemoryStore(nil)
			o := CreateOptions{Schema: trackedBatch(nil).Schema, Properties: props[feature]}
			_, err := Create(ctx, store, o)
			refused("create", err)
			if left := storeList(t, store); left != nil {
				t.Errorf("create left %v", left)
			}
			o.Properties = nil
			tbl, err := Create(ctx, store, o)
			if err != nil {
				t.Fatal(err)
			}
			before := storeList(t, store)
			set := map[string]*string{}
			for k, v := range props[feature] {
				set[k] = &v
			}
			_, err = tbl.SetProperties(ctx, set)
			refused("properties", err)
			if left := storeList(t, store); !slices.Equal(left, before) {
				t.Errorf("properties left %v", left)
			}
			foreign := putLog(t, map[int64]string{0: fmt.Sprintf(`{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":[%q]}}`, feature) + "\n" + jsonText(action{Metadata: tbl.Latest().metadata})})
			other, err := Open(ctx, foreign, TableOptions{})
			if err != nil {
				t.Fatal(err)
			}
			_, err = other.Append(ctx, Batches(trackedBatch(map[int64]int64{1: 1})), WriteOptions{})
			refused("append", err)
			_, err = other.Delete(ctx, nil)
			refused("delete", err)
			_, err = other.Vacuum(ctx, VacuumOptions{})
			refused("vacuum", err)
			if left := storeList(t, foreign); len(left) != 1 {
				t.Errorf("a foreign table got %v", left)
			}
		})
	}
	for _, text := range []string{`"variant"`, `"string collate UTF8_LCASE"`, `"interval day to second"`} {
		if err := json.Unmarshal([]byte(text), &Type{}); err == nil || !strings.Contains(err.Error(), "not supported") {
			t.Errorf("type %s: %v, want a refusal", text, err)
		}
	}
	if _, err := Create(ctx, NewMemoryStore(nil), CreateOptions{Schema: NewSchema(Field{Name: "s", Type: Of(KindString), Metadata: map[string]json.RawMessage{"__COLLATIONS": json.RawMessage(`{"s":"icu.UNICODE"}`)}})}); err == nil || !strings.Contains(err.Error(), "collations") {
		t.Errorf("collated column: %v", err)
	}
}

// Change feed, clone, convert and restore work on a table with identity values, row
// ids and clustering at once: nothing is given twice.
func TestFeaturesTogether(t *testing.T) {
	ctx := context.Background()
	tbl, err := Create(ctx, NewFolderStore(t.TempDir()), CreateOptions{
		Schema: NewSchema(Identity("id", 1, 1), Col("word", Of(KindString))), ClusterBy: []string{"word"},
		Properties: map[string]string{"delta.enableRowTracking": "true", "delta.enableChangeDataFeed": "true", "delta.enableDeletionVectors": "true"},
	})
	if err != nil {
		t.Fatal(err)
	}
	appendWords(t, tbl, "a", "b", "c")
	rows := func(s *Snapshot) map[int64][2]int64 { // row id and version by identity
		t.Helper()
		out := map[int64][2]int64{}
		for b, err := range s.Scan(ctx, ScanOptions{Columns: []string{"id"}, RowIDs: true}) {
			if err != nil {
				t.Fatal(err)
			}
			for i := range b.Len {
				out[b.Columns[0].Longs[i]] = [2]int64{b.Columns[1].Longs[i], b.Columns[2].Longs[i]}
			}
		}
		return out
	}
	if _, err := tbl.Merge(ctx, Merge{Source: Batches(words([]string{"a", "d"})), On: mustExpr(t, "target.word = source.word"),
		Clauses: []MergeClause{{Action: MatchedDelete}, {Action: NotMatchedInsert}}}); err != nil {
		t.Fatal(err)
	}
	want := map[int64][2]int64{2: {1, 1}, 3: {2, 1}, 4: {3, 2}}
	if got := rows(tbl.Latest()); !maps.Equal(got, want) {
		t.Fatalf("rows %v, want %v", got, want)
	}
	var feed []string
	for b, err := range tbl.Changes(ctx, ChangeOptions{From: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Len {
			feed = append(feed, fmt.Sprint(b.Column(CommitVersion).Longs[i], b.Column(ChangeType).StringAt(i), b.Column("id").Longs[i]))
		}
	}
	slices.Sort(feed)
	if want := []string{"1insert1", "1insert2", "1insert3", "2delete1", "2insert4"}; !slices.Equal(feed, want) {
		t.Fatalf("feed %v, want %v", feed, want)
	}

	clone, err := tbl.Latest().Clone(ctx, NewFolderStore(t.TempDir()), TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := rows(clone.Latest()); !maps.Equal(got, want) || !slices.Equal(clone.Latest().ClusteringColumns(), []string{"word"}) {
		t.Fatalf("clone: rows %v, want %v; clustered by %v", got, want, clone.Latest().ClusteringColumns())
	}
	appendWords(t, clone, "e")
	if _, err := clone.Optimize(ctx, OptimizeOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := rows(clone.Latest()); len(got) != 4 || got[5][0] <= 3 || got[2] != want[2] {
		t.Fatalf("clone after an append: rows %v", got)
	}

	if _, err := tbl.Restore(ctx, 0); err != nil {
		t.Fatal(err)
	}
	appendWords(t, tbl, "f")
	if got := rows(tbl.Latest()); len(got) != 1 || got[5][0] <= 3 {
		t.Fatalf("after a restore to nothing: rows %v, want identity 5 and a new row id", got)
	}
	if _, err := tbl.Restore(ctx, 2); err != nil {
		t.Fatal(err)
	}
	if got := rows(tbl.Latest()); !maps.Equal(got, want) {
		t.Fatalf("restored rows %v, want %v", got, want)
	}

	store := NewMemoryStore(nil)
	plain, err := Create(ctx, store, CreateOptions{Schema: trackedBatch(nil).Schema})
	if err != nil {
		t.Fatal(err)
	}
	writeTracked(t, plain)
	for _, p := range storeList(t, store) {
		if strings.HasPrefix(p, logDir) {
			if err := store.Delete(ctx, p); err != nil {
				t.Fatal(err)
			}
		}
	}
	converted, err := Convert(ctx, store, nil, TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	on := "true"
	if _, err := converted.SetProperties(ctx, map[string]*string{"delta.enableRowTracking": &on}); err != nil {
		t.Fatal(err)
	}
	if got := readTracked(t, converted.Latest()); !maps.Equal(got, trackedModel{1: {1, 0, 1}}) {
		t.Fatalf("converted: %v", got)
	}
}
