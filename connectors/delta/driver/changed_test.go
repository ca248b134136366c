package driver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/stream/spi"
)

// noted is a purchase with columns that may be null or become wider.
type noted struct {
	ID    int64
	User  *string
	Price float64
	Kind  int32
	Note  *string // null in every third row
}

func notedRows(from, to int) (out []noted) {
	for i := from; i < to; i++ {
		user := fmt.Sprint("user", i%10)
		r := noted{ID: int64(i), User: &user, Price: float64(i) / 4, Kind: int32(i)}
		if i%3 > 0 {
			r.Note = &user
		}
		out = append(out, r)
	}
	return out
}

// A table that others alter while a job writes it stops the job only where the rows
// do not fit, and then with the name of what they do not fit.
func TestAlteredMeanwhile(t *testing.T) {
	ctx := context.Background()
	type table = deltalake.Table
	evolve := func(f deltalake.Field) func(*table) error {
		return func(tbl *table) error {
			m := *tbl.Latest().Metadata()
			schema := &deltalake.Schema{Fields: append(slices.Clone(tbl.Latest().Schema().Fields), f)}
			text, err := schema.MarshalJSON()
			if err != nil {
				return err
			}
			m.SchemaString = string(text)
			_, err = tbl.Commit(ctx, deltalake.Commit{Base: tbl.Latest(), Metadata: &m, Protocol: &deltalake.Protocol{MinReaderVersion: 1, MinWriterVersion: 7,
				WriterFeatures: &[]string{"allowColumnDefaults", "generatedColumns", "invariants", "appendOnly", "checkConstraints"}}})
			return err
		}
	}
	str := deltalake.Of(deltalake.KindString)
	// replace makes another schema of the table's, as an overwrite with a schema does.
	replace := func(edit func(m *deltalake.Metadata, s *deltalake.Schema)) func(*table) error {
		return func(tbl *table) error {
			m := *tbl.Latest().Metadata()
			schema := &deltalake.Schema{Fields: slices.Clone(tbl.Latest().Schema().Fields)}
			edit(&m, schema)
			text, err := schema.MarshalJSON()
			if err != nil {
				return err
			}
			m.SchemaString = string(text)
			_, err = tbl.Commit(ctx, deltalake.Commit{Base: tbl.Latest(), Metadata: &m})
			return err
		}
	}
	required := func(name string) func(*table) error {
		return replace(func(_ *deltalake.Metadata, s *deltalake.Schema) { s.Fields[s.Index(name)].Nullable = false })
	}
	for _, tt := range []struct {
		name  string
		alter func(tbl *table) error
		want  string // "" when the epoch is committed
	}{
		{"protocol", func(tbl *table) error {
			_, err := tbl.Commit(ctx, deltalake.Commit{Base: tbl.Latest(), Protocol: &deltalake.Protocol{MinReaderVersion: 1, MinWriterVersion: 4}})
			return err
		}, ""},
		{"a feature that we write", func(tbl *table) error {
			_, err := tbl.Commit(ctx, deltalake.Commit{Base: tbl.Latest(), Protocol: &deltalake.Protocol{MinReaderVersion: 1, MinWriterVersion: 7, WriterFeatures: &[]string{"domainMetadata"}}})
			return err
		}, ""},
		{"a property", func(tbl *table) error {
			m := *tbl.Latest().Metadata()
			m.Description = "new"
			m.Configuration = maps.Clone(m.Configuration)
			m.Configuration["owner"] = "me"
			_, err := tbl.Commit(ctx, deltalake.Commit{Base: tbl.Latest(), Metadata: &m})
			return err
		}, ""},
		{"a nullable column", evolve(deltalake.Col("more", str)), ""},
		{"a constraint that rows follow", func(tbl *table) error { _, err := tbl.AddConstraint(ctx, "small", "id < 50"); return err }, ""},
		{"a constraint that rows break", func(tbl *table) error { _, err := tbl.AddConstraint(ctx, "tiny", "id < 5"); return err }, `constraint tiny (id < 5) is violated by a row with id = 5`},
		{"a default", evolve(deltalake.Field{Name: "def", Type: str, Nullable: true, Metadata: fieldText(t, "CURRENT_DEFAULT", "'x'")}), `column "def" has a default, so rows must bring it`},
		{"a generated column", evolve(deltalake.Field{Name: "gen", Type: str, Nullable: true, Metadata: fieldText(t, "delta.generationExpression", "user")}), `column "gen" is generated, so rows must bring it`},
		{"a column that may not be null, and is not", required("user"), ""},
		{"a column that may not be null, and is", required("note"), `column "note" may not be null`},
		{"another type", replace(func(_ *deltalake.Metadata, s *deltalake.Schema) { s.Fields[s.Index("price")].Type = str }), `changed column "price": the file holds double, which cannot be read as string`},
		{"a wider type that rows fit", replace(func(_ *deltalake.Metadata, s *deltalake.Schema) {
			s.Fields[s.Index("kind")].Type = deltalake.Of(deltalake.KindLong)
		}), ""},
		{"a column less", replace(func(_ *deltalake.Metadata, s *deltalake.Schema) { s.Fields = s.Fields[:s.Index("note")] }), `dropped column "note"`},
		{"a column more that may not be null", replace(func(_ *deltalake.Metadata, s *deltalake.Schema) {
			s.Fields = append(s.Fields, deltalake.Field{Name: "must", Type: str})
		}), `column "must" may not be null`},
		{"partitions", replace(func(m *deltalake.Metadata, _ *deltalake.Schema) { m.PartitionColumns = []string{"user"} }), `changed partition column "user"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t)
			e := env[noted](s, 0, 1)
			w, c := s.writer(e, nil), s.committer(e)
			write(s, w, notedRows(0, 10)...)
			h, _ := s.prepare(w, 0, 1)
			tbl, err := deltalake.Open(ctx, deltalake.NewFolderStore(filepath.Join(s.folder, "gold/t")), deltalake.TableOptions{})
			if err == nil {
				err = tt.alter(tbl)
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Commit(ctx, 1, h)
			if tt.want != "" {
				if !errors.Is(err, spi.ErrStop) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %s", err, tt.want)
				}
				if n := len(s.ids()); n != 0 {
					t.Errorf("%d rows of the refused epoch are in the table", n)
				}
				// Also not by a job that starts anew, be it that it finds its rows unfit.
				again, err := Sink{}.OpenCommitter(ctx, e)
				if err != nil {
					if !strings.Contains(err.Error(), "gold/t") {
						t.Errorf("after a restart: got %v", err)
					}
					return
				}
				if _, err = again.Commit(ctx, 1, h); !errors.Is(err, spi.ErrStop) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("after a restart: got %v", err)
				}
				if n := len(s.ids()); n != 0 {
					t.Errorf("after a restart %d rows of the refused epoch are in the table", n)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			write(s, w, notedRows(10, 20)...)
			h, _ = s.prepare(w, 0, 2)
			s.commit(s.committer(e), 2, h) // of a job that starts anew
			s.commit(c, 2, h)
			if !slices.Equal(s.ids(), upTo(0, 20)) {
				t.Errorf("rows %v", s.ids())
			}
			if strings.HasPrefix(tt.name, "a constraint") { // the writers know nothing of it
				write(s, w, notedRows(49, 51)...)
				h, _ = s.prepare(w, 0, 3)
				if _, err := c.Commit(ctx, 3, h); !errors.Is(err, spi.ErrStop) || !strings.Contains(err.Error(), "constraint small") {
					t.Errorf("an epoch after the alteration: %v", err)
				}
			}
		})
	}
}

// A feature that this program does not write stops the job by its name.
func TestUnwritableMeanwhile(t *testing.T) {
	s := newStage(t)
	e := env[purchase](s, 0, 1)
	w, c := s.writer(e, nil), s.committer(e)
	write(s, w, purchases(0, 10)...)
	h, _ := s.prepare(w, 0, 1)
	store := deltalake.NewFolderStore(filepath.Join(s.folder, "gold/t"))
	line := `{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["icebergCompatV1"]}}` + "\n"
	if err := store.PutIfAbsent(context.Background(), "_delta_log/00000000000000000001.json", []byte(line)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Commit(context.Background(), 1, h); !errors.Is(err, spi.ErrStop) || !strings.Contains(err.Error(), "icebergCompatV1") {
		t.Errorf("got %v", err)
	}
}
