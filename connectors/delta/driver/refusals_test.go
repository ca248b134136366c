package driver

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/deltalake"
	"github.com/weirstream/weir/stream/spi"
)

// Rows that cannot be stored fail in one sentence.
func TestBadRows(t *testing.T) {
	s := newStage(t)
	w := s.writer(env[everything](s, 0, 1), nil)
	for _, tt := range []struct {
		row  everything
		want string
	}{
		{everything{At: time.Unix(0, 1)}, `delta sink: codec: column at: 1970-01-01T00:00:00.000000001Z is finer than a microsecond: truncate it`},
		{everything{At: time.Unix(0, 0), Money: decimal(t, "1.001")}, `delta sink: codec: column money: `},
		{everything{At: time.Unix(0, 0), Money: decimal(t, "12345678901.5")}, `delta sink: codec: column money: 12345678901.50 has more digits than decimal(12,2)`},
	} {
		if _, err := w.Write(batchOf(tt.row), 0); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
}

func decimal(t *testing.T, s string) dataflow.Decimal {
	d, err := dataflow.ParseDecimal(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

type wider struct {
	ID    int64
	User  string
	Extra *string
}

type other struct {
	ID   string
	User string
}

// What does not fit an existing table is refused before the first epoch, or
// merged where the job says so.
func TestSchemas(t *testing.T) {
	s := newStage(t)
	first := env[purchase](s, 0, 1, "partition_by", "day")
	s.writer(first, nil)
	for _, tt := range []struct {
		name string
		env  spi.Env
		want string
	}{
		{"new column", env[wider](s, 0, 1), `delta sink: table "gold/t" does not fit rows of driver.wider: column "extra" (string) is not in the table: set merge_schema to add columns, or change the rows`},
		{"other type", env[other](s, 0, 1, "merge_schema", "true"), `delta sink: table "gold/t": deltalake: merge schema: column "id" is long and cannot become string`},
		{"other type, no merge", env[other](s, 0, 1), `delta sink: table "gold/t" does not fit rows of driver.other: column "id" is long in the table and string in the rows: change the rows, or write to a new table`},
		{"partition columns", env[purchase](s, 0, 1, "partition_by", "user"), `delta sink: table "gold/t" is partitioned by [day], the job says [user]: correct partition_by, or write to a new table`},
		{"partition column of no row", env[other](s, 0, 1, "partition_by", "hour"), `delta sink: table "gold/t": partition_by names "hour", which rows of driver.other do not have`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := (Sink{}).OpenWriter(context.Background(), tt.env, nil); err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
	if v := s.snapshot().Version(); v != 0 {
		t.Errorf("refusals left version %d", v)
	}

	s = newStage(t)
	s.writer(env[purchase](s, 0, 1), nil)
	e := env[wider](s, 0, 1, "merge_schema", "true")
	w, c := s.writer(e, nil), s.committer(e)
	x := "x"
	write(s, w, wider{ID: 1, Extra: &x}, wider{ID: 2})
	h, _ := s.prepare(w, 0, 1)
	s.commit(c, 1, h)
	if snap := s.snapshot(); snap.Schema().Index("extra") != 5 || !slices.Equal(s.ids(), []int{1, 2}) {
		t.Errorf("after a merge: %d columns, rows %v", len(snap.Schema().Fields), s.ids())
	}
}

// Names, properties and descriptions reach the table.
func TestTableMetadata(t *testing.T) {
	s := newStage(t)
	s.writer(env[purchase](s, 0, 1, "table_name", "sales", "table_description", "all of them", "delta.appendOnly", "true"), nil)
	m := s.snapshot().Metadata()
	if m.Name != "sales" || m.Description != "all of them" || m.Configuration["delta.appendOnly"] != "true" {
		t.Errorf("metadata %+v", m)
	}
}

// Check names every fault of a declaration.
func TestDeclaration(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options map[string]string
		root    string
		want    string
	}{
		{"no path", nil, "/lake", `delta sink: option "path" is missing`},
		{"misspelt", map[string]string{"path": "t", "merge_shema": "true"}, "/lake", `delta sink: unknown option "merge_shema": did you mean "merge_schema"?`},
		{"type", map[string]string{"path": "t", "merge_schema": "yes"}, "/lake", `delta sink: option "merge_schema" is "yes": want true or false`},
		{"no lake", map[string]string{"path": "gold/t"}, "", `delta sink: path "gold/t" is relative but lake.root is not set: set lake.root, or give an absolute path or URL`},
		{"outside", map[string]string{"path": "../t"}, "/lake", `delta sink: path "../t" leaves the lake: give a path below lake.root /lake`},
		{"property", map[string]string{"path": "t", "detla.appendOnly": "true"}, "/lake", `delta sink: "detla.appendOnly" is not a table property: they begin with delta., such as delta.appendOnly`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Sink{}.Check(dataflow.Connector{Options: tt.options}, map[string]string{"lake.root": tt.root})
			if err == nil || !slices.Contains(strings.Split(err.Error(), "\n"), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
	if got, err := locate("gold/t", "s3://bucket/lake/?region=x"); err != nil || got != "s3://bucket/lake/gold/t?region=x" {
		t.Errorf("locate = %q, %v", got, err)
	}
	e := env[purchase](newStage(t), 0, 1, "path", "s3://bucket/t")
	if _, err := (Sink{}).OpenWriter(context.Background(), e, nil); err == nil || err.Error() != `delta sink: table "s3://bucket/t" is in a s3:// store, but this worker opens folders only` {
		t.Errorf("no store: %v", err)
	}
}

// faulty is a store whose files cannot be written after some.
type faulty struct {
	deltalake.Store
	left int
	err  error
}

func (f *faulty) Create(ctx context.Context, path string) (deltalake.ObjectWriter, error) {
	if f.left--; f.left < 0 {
		return nil, &os.PathError{Op: "create", Path: path, Err: f.err}
	}
	return f.Store.Create(ctx, path)
}

// A full or read-only disk is said with its cure; the epoch is declined and
// nothing of it is lost, for its rows are read again.
func TestDisk(t *testing.T) {
	for _, tt := range []struct {
		left int
		err  error
		want string
	}{
		{1, syscall.ENOSPC, `no space left on device: the disk is full: make room, the job then goes on from its last checkpoint`},
		{0, syscall.EROFS, `read-only file system: the table cannot be written: give the worker's user write permission`},
	} {
		s := newStage(t)
		sink := Sink{Store: func(context.Context, string, map[string]string) (deltalake.Store, error) {
			return &faulty{deltalake.NewMemoryStore(nil), tt.left, tt.err}, nil
		}}
		w, err := sink.OpenWriter(context.Background(), env[purchase](s, 0, 1, "path", "mem://t"), nil)
		if err == nil {
			defer w.Close()
			write(s, w, purchases(0, 100)...)
			if _, err = prepareErr(w, 1, false); err != nil {
				if _, again := w.Write(batchOf(purchases(0, 1)...), 0); again == nil || again.Error() != err.Error() {
					t.Errorf("Write after a lost file: %v", again)
				}
				if _, again := prepareErr(w, 2, false); again == nil {
					t.Error("the epoch after a lost file was prepared")
				}
			}
		}
		if err == nil || !strings.HasPrefix(err.Error(), `delta sink: table "mem://t": `) || !strings.HasSuffix(err.Error(), tt.want) {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
}

// A table changed so that files no longer fit stops the job.
func TestTableChanged(t *testing.T) {
	s := newStage(t)
	e := env[purchase](s, 0, 1)
	w, c := s.writer(e, nil), s.committer(e)
	write(s, w, purchases(0, 10)...)
	h, _ := s.prepare(w, 0, 1)
	tbl, err := deltalake.Open(context.Background(), deltalake.NewFolderStore(filepath.Join(s.folder, "gold/t")), deltalake.TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m := *tbl.Latest().Metadata()
	m.SchemaString = strings.Replace(m.SchemaString, `"user"`, `"customer"`, 1)
	if _, err := tbl.Commit(context.Background(), deltalake.Commit{Metadata: &m}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Commit(context.Background(), 1, h)
	if !errors.Is(err, spi.ErrStop) || !strings.Contains(err.Error(), `table "gold/t": epoch 1 cannot be committed, for the table was changed since its files were written`) {
		t.Errorf("got %v", err)
	}
}

// fieldText is the metadata of a field that has one text.
func fieldText(t *testing.T, key, value string) map[string]json.RawMessage {
	t.Helper()
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]json.RawMessage{key: raw}
}

// A table that would have to make values which rows do not bring is refused at the
// start, and taken when they do.
func TestUngenerated(t *testing.T) {
	str := deltalake.Of(deltalake.KindString)
	for _, tt := range []struct {
		name  string
		extra deltalake.Field
		want  string
	}{
		{"identity", deltalake.IdentityByDefault("seq", 1, 1), `column "seq" is an identity column, whose values the table gives out commit by commit, and a sink writes its files before: make the key in the job, or append to this table with weir table append`},
		{"generated", deltalake.Field{Name: "gen", Type: str, Nullable: true, Metadata: fieldText(t, "delta.generationExpression", "user")}, `column "gen" is generated, so rows must bring it`},
		{"default", deltalake.Field{Name: "def", Type: str, Nullable: true, Metadata: fieldText(t, "CURRENT_DEFAULT", "'x'")}, `column "def" has a default, so rows must bring it`},
		{"brought", deltalake.Field{Name: "extra", Type: str, Nullable: true, Metadata: fieldText(t, "CURRENT_DEFAULT", "'x'")}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t)
			schema := deltalake.NewSchema(deltalake.Col("id", deltalake.Of(deltalake.KindLong)), deltalake.Col("user", str), tt.extra)
			if tt.extra.Name != "extra" {
				schema.Fields = append(schema.Fields, deltalake.Col("extra", str))
			}
			if _, err := deltalake.Create(context.Background(), deltalake.NewFolderStore(filepath.Join(s.folder, "gold/t")), deltalake.CreateOptions{Schema: schema}); err != nil {
				t.Fatal(err)
			}
			if tt.want == "" {
				s.writer(env[wider](s, 0, 1), nil)
				return
			}
			want := `delta sink: table "gold/t" cannot be written by a job: ` + tt.want
			if _, err := (Sink{}).OpenWriter(context.Background(), env[wider](s, 0, 1), nil); err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}
