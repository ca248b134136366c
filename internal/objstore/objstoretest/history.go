package objstoretest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/weirstream/weir/internal/objstore"
)

func testList(t *testing.T, s objstore.Store, _ Options) {
	all := []string{
		"a", "a-b", "a.b", "ab/c", "ab/c-d", "ab/c.d/e", "ab/cd/e", "ab0",
		"log/00000000000000000000.json", "log/00000000000000000001.json", "log/00000000000000000010.json", "log/_last",
		"p/date=2026-01-01/x", "p/date=2026-01-02/x", "p/date=2026-01-02/y", "z",
	}
	slices.Sort(all)
	for _, k := range all {
		put(t, s, k, k)
	}
	for _, prefix := range []string{"", "a", "ab", "ab/", "ab/c", "ab/c.d/", "log/", "log/0000000000000000000", "p/date=2026-01-02/", "x", "z", "zz", "ab/c/", "a//", "/", "../", "./"} {
		for _, after := range append([]string{"", "0", "ab/", "ab/c.", "ab/c.d/", "log/00000000000000000005", "zzz"}, all...) {
			var want []string
			for _, k := range all {
				if strings.HasPrefix(k, prefix) && k > after {
					want = append(want, k)
				}
			}
			if got := keys(t, s, prefix, after); !slices.Equal(got, want) {
				t.Fatalf("All(%q, %q) = %q, want %q", prefix, after, got, want)
			}
		}
	}
	for limit := 1; limit <= len(all)+1; limit++ {
		var got []string
		after := ""
		for {
			page, err := s.List(t.Context(), "", after, limit)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) > limit {
				t.Fatalf("a page of %d objects, the limit was %d", len(page), limit)
			}
			if len(page) == 0 {
				break
			}
			for _, info := range page {
				got = append(got, info.Key)
				if info.Size != int64(len(info.Key)) || info.ModTime.IsZero() {
					t.Errorf("listed %+v, want size %d and a time", info, len(info.Key))
				}
			}
			after = got[len(got)-1]
		}
		if !slices.Equal(got, all) {
			t.Fatalf("pages of %d give %q, want %q", limit, got, all)
		}
	}
	if info, err := s.Stat(t.Context(), "a"); err != nil {
		t.Error(err)
	} else if page, err := s.List(t.Context(), "a", "", 1); err != nil || len(page) != 1 || page[0].ETag != info.ETag {
		t.Errorf("List and Stat disagree on the ETag: %+v and %+v, %v", page, info, err)
	}
}

func testStrangeKeys(t *testing.T, s objstore.Store, o Options) {
	strange := []string{
		"a b/c  d", "a+b", "a%20b", "a%2Fb", "a?b=c", "a#b", "a&b;c", "a=b/c=d e", "ü/日本語", "a:b", "a\\b", "a'b\"c", "~a", ".hidden", "_delta_log/.tmp", "a...b", "…", "😀/x",
		"a*b[c]{d}", "a|b<c>d^e`f", strings.Repeat("long", 50) + "/" + strings.Repeat("name", 50),
	}
	for _, k := range o.Refused {
		if err := objstore.PutBytes(t.Context(), s, k, nil); !errors.Is(err, objstore.ErrKey) {
			t.Errorf("Put(%q) = %v, want ErrKey", k, err)
		}
		strange = slices.DeleteFunc(strange, func(s string) bool { return s == k })
	}
	for i, k := range strange {
		put(t, s, k, fmt.Sprint("body ", i))
	}
	for i, k := range strange {
		if got, want := get(t, s, k), fmt.Sprint("body ", i); got != want {
			t.Errorf("%q reads %q, want %q", k, got, want)
		}
		if err := s.Copy(t.Context(), "copy", k); err != nil {
			t.Errorf("Copy from %q: %v", k, err)
		} else if got, want := get(t, s, "copy"), fmt.Sprint("body ", i); got != want {
			t.Errorf("the copy of %q reads %q, want %q", k, got, want)
		}
	}
	want := append(slices.Clone(strange), "copy")
	slices.Sort(want)
	if got := keys(t, s, "", ""); !slices.Equal(got, want) {
		t.Errorf("listed %q\nwant   %q", got, want)
	}
	for _, k := range want {
		if err := s.Delete(t.Context(), k); err != nil {
			t.Errorf("Delete(%q): %v", k, err)
		}
	}
	if got := keys(t, s, "", ""); len(got) > 0 {
		t.Errorf("%q are left after Delete", got)
	}
}

func testBadKeys(t *testing.T, s objstore.Store, _ Options) {
	ctx := t.Context()
	put(t, s, "ok", "x")
	for _, key := range []string{
		"", "/", "/abs", "a/", "a//b", ".", "..", "../up", "a/../b", "a/..", "./a", "a/.", "nul\x00", "line\n", "\xff", strings.Repeat("a/", 600) + "a", ".weir-tmp/x", ".weir-tmp",
	} {
		_, _, getErr := s.Get(ctx, key)
		_, rangeErr := s.GetRange(ctx, key, 0, 1)
		_, statErr := s.Stat(ctx, key)
		for op, err := range map[string]error{
			"Get": getErr, "GetRange": rangeErr, "Stat": statErr,
			"Put":         objstore.PutBytes(ctx, s, key, []byte("x")),
			"PutIfAbsent": objstore.PutBytesIfAbsent(ctx, s, key, []byte("x")),
			"Copy to":     s.Copy(ctx, key, "ok"),
			"Copy from":   s.Copy(ctx, "dst", key),
			"Delete":      s.Delete(ctx, key),
		} {
			if !errors.Is(err, objstore.ErrKey) {
				t.Errorf("%s(%q) = %v, want ErrKey", op, key, err)
			}
		}
	}
	if got := keys(t, s, "", ""); !slices.Equal(got, []string{"ok"}) {
		t.Errorf("keys %q, want only ok", got)
	}
}

func testCopy(t *testing.T, s objstore.Store, o Options) {
	ctx := t.Context()
	body := pattern(o.LargeBytes, 3)
	if err := objstore.PutBytes(ctx, s, "src", body); err != nil {
		t.Fatal(err)
	}
	put(t, s, "to/dst", "old")
	for _, dst := range []string{"to/dst", "new/dst", "src"} {
		if err := s.Copy(ctx, dst, "src"); err != nil {
			if dst == "src" {
				continue // a store may refuse to copy onto itself
			}
			t.Fatalf("Copy to %s: %v", dst, err)
		}
		if get(t, s, dst) != string(body) {
			t.Errorf("the copy %s differs", dst)
		}
	}
	put(t, s, "src", "changed")
	if get(t, s, "new/dst") != string(body) {
		t.Error("the copy changed with its source")
	}
}

func testContext(t *testing.T, s objstore.Store, _ Options) {
	put(t, s, "k", "x")
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	_, _, getErr := s.Get(ctx, "k")
	_, rangeErr := s.GetRange(ctx, "k", 0, 1)
	_, statErr := s.Stat(ctx, "k")
	_, listErr := s.List(ctx, "", "", 0)
	for op, err := range map[string]error{
		"Get": getErr, "GetRange": rangeErr, "Stat": statErr, "List": listErr,
		"Put":         objstore.PutBytes(ctx, s, "n1", []byte("x")),
		"PutIfAbsent": objstore.PutBytesIfAbsent(ctx, s, "n2", []byte("x")),
		"Copy":        s.Copy(ctx, "n3", "k"),
		"Delete":      s.Delete(ctx, "k"),
	} {
		if !errors.Is(err, why) {
			t.Errorf("%s = %v, want the cause of the context", op, err)
		}
	}
	if got := keys(t, s, "", ""); !slices.Equal(got, []string{"k"}) {
		t.Errorf("keys %q, want only k", got)
	}
}

func testPutOnce(t *testing.T, s objstore.Store, _ Options) {
	var b objstore.Backoff
	for range 2 { // the second finds its own bytes
		if err := b.PutOnce(t.Context(), s, "k", []byte("mine")); err != nil {
			t.Errorf("PutOnce = %v", err)
		}
	}
	if err := b.PutOnce(t.Context(), s, "k", []byte("yours")); !errors.Is(err, objstore.ErrExists) {
		t.Errorf("PutOnce of other bytes = %v, want ErrExists", err)
	}
}

// A random history gives the same answers as a map.
func testHistory(t *testing.T, s objstore.Store, o Options) {
	ctx := t.Context()
	seed := uint64(o.Ops)
	r := rand.New(rand.NewPCG(seed, 1))
	model := map[string]string{}
	name := func() string {
		return fmt.Sprintf("%c/%c%d", 'a'+r.IntN(3), 'a'+r.IntN(2), r.IntN(4))
	}
	is := func(op int, err, want error) {
		t.Helper()
		if (err == nil) != (want == nil) || !errors.Is(err, want) {
			t.Fatalf("seed %d op %d: %v, want %v", seed, op, err, want)
		}
	}
	missing := func(k string) error {
		if _, ok := model[k]; !ok {
			return objstore.ErrNotFound
		}
		return nil
	}
	for op := range o.Ops {
		k, body := name(), fmt.Sprint("body ", op)
		switch r.IntN(7) {
		case 0:
			is(op, objstore.PutBytes(ctx, s, k, []byte(body)), nil)
			model[k] = body
		case 1:
			if _, ok := model[k]; ok {
				is(op, objstore.PutBytesIfAbsent(ctx, s, k, []byte(body)), objstore.ErrExists)
			} else {
				is(op, objstore.PutBytesIfAbsent(ctx, s, k, []byte(body)), nil)
				model[k] = body
			}
		case 2:
			is(op, s.Delete(ctx, k), nil)
			delete(model, k)
		case 3:
			dst := name()
			if dst == k {
				continue
			}
			is(op, s.Copy(ctx, dst, k), missing(k))
			if v, ok := model[k]; ok {
				model[dst] = v
			}
		case 4:
			info, err := s.Stat(ctx, k)
			is(op, err, missing(k))
			if err == nil && info.Size != int64(len(model[k])) {
				t.Fatalf("op %d: size %d, want %d", op, info.Size, len(model[k]))
			}
		case 5:
			b, err := objstore.ReadAll(ctx, s, k)
			is(op, err, missing(k))
			if err == nil && string(b) != model[k] {
				t.Fatalf("op %d: read %q, want %q", op, b, model[k])
			}
		case 6:
			prefix, after := k[:r.IntN(len(k))], name()
			var want []string
			for _, m := range slices.Sorted(maps.Keys(model)) {
				if strings.HasPrefix(m, prefix) && m > after {
					want = append(want, m)
				}
			}
			if got := keys(t, s, prefix, after); !slices.Equal(got, want) {
				t.Fatalf("op %d: All(%q, %q) = %q, want %q", op, prefix, after, got, want)
			}
		}
	}
}
