package objstore_test

import (
	"context"
	"errors"
	"net/url"
	"testing"

	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/internal/objstore/objstoretest"
)

func TestMemConforms(t *testing.T) {
	objstoretest.Run(t, objstoretest.Options{}, func(*testing.T) objstore.Store { return objstore.NewMem(nil) })
}

func TestFolderConforms(t *testing.T) {
	for _, tt := range []struct {
		name string
		opts objstore.FolderOptions
	}{
		{"synced", objstore.FolderOptions{}},
		{"cache", objstore.FolderOptions{NoSync: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			objstoretest.Run(t, objstoretest.Options{}, func(t *testing.T) objstore.Store {
				s, err := objstore.OpenFolder(t.TempDir()+"/made/by/open", tt.opts)
				if err != nil {
					t.Fatal(err)
				}
				return s
			})
		})
	}
}

func noReels(context.Context, *url.URL) (objstore.Store, error) { return nil, errors.New("no reels") }
