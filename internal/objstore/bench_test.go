package objstore_test

import (
	"fmt"
	"testing"

	"github.com/weirstream/weir/internal/objstore"
)

// What a write of 1 KiB costs, with and without fsync, and what listing the tail
// of a folder of 50,000 objects does.
func BenchmarkFolder(b *testing.B) {
	body := make([]byte, 1<<10)
	for _, sync := range []bool{true, false} {
		s, err := objstore.OpenFolder(b.TempDir(), objstore.FolderOptions{NoSync: !sync})
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		b.Run(fmt.Sprintf("PutIfAbsent/sync=%v", sync), func(b *testing.B) {
			for b.Loop() {
				n++
				if err := objstore.PutBytesIfAbsent(b.Context(), s, fmt.Sprintf("log/%020d.json", n), body); err != nil {
					b.Fatal(err)
				}
			}
		})
		s.Close()
	}
	s, err := objstore.OpenFolder(b.TempDir(), objstore.FolderOptions{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for i := range 50_000 {
		if err := objstore.PutBytes(b.Context(), s, fmt.Sprintf("log/%020d.json", i), nil); err != nil {
			b.Fatal(err)
		}
	}
	for _, from := range []int{-1, 49_990} {
		b.Run(fmt.Sprintf("All/50000-after-%d", from), func(b *testing.B) {
			for b.Loop() {
				n := 0
				for _, err := range objstore.All(b.Context(), s, "log/", fmt.Sprintf("log/%020d.json", from)) {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
				if n != 49_999-from && from >= 0 {
					b.Fatal(n)
				}
			}
		})
	}
	b.Run("ReadAt", func(b *testing.B) {
		if err := objstore.PutBytes(b.Context(), s, "k", make([]byte, 1<<20)); err != nil {
			b.Fatal(err)
		}
		p := make([]byte, 4<<10)
		for b.Loop() {
			if err := objstore.ReadAt(b.Context(), s, "k", p, 512<<10); err != nil {
				b.Fatal(err)
			}
		}
	})
}
