package objstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// An Opener opens the store that a URL of its scheme names.
type Opener func(ctx context.Context, u *url.URL) (Store, error)

// Openers maps URL schemes to drivers. The binary fills it with the cloud drivers
// it links, so that this package depends on none of them:
//
//	objstore.Openers{"s3": s3.Open}
type Openers map[string]Opener

// Open opens the store that location names:
//
//	/path, path, file:///path   a folder, made if it is absent
//	file:///path?sync=off       the same without fsync, for caches
//	mem://                      a new, empty store in memory
//	s3://bucket/prefix?...      and others: a scheme of openers
func (o Openers) Open(ctx context.Context, location string) (Store, error) {
	if location == "" {
		return nil, fmt.Errorf("objstore: open: the location is empty: name a folder or a URL")
	}
	if !strings.Contains(location, "://") {
		return OpenFolder(location, FolderOptions{})
	}
	u, err := url.Parse(location)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // without the URL, which may hold a secret
		}
		return nil, fmt.Errorf("objstore: open %s: %w", redact(location), err)
	}
	switch u.Scheme {
	case "file":
		return openFileURL(u)
	case "mem":
		return NewMem(nil), nil
	}
	open := o[u.Scheme]
	if open == nil {
		known := append([]string{"file", "mem"}, slices.Collect(maps.Keys(o))...)
		slices.Sort(known)
		return nil, fmt.Errorf("objstore: open %s: no driver for %s://: want one of %s, or a path", redact(location), u.Scheme, strings.Join(known, ", "))
	}
	return open(ctx, u)
}

func openFileURL(u *url.URL) (Store, error) {
	if u.Host != "" && u.Host != "localhost" {
		return nil, fmt.Errorf("objstore: open %s: a file URL has three slashes: file:///path", u.Redacted())
	}
	if !filepath.IsAbs(u.Path) {
		return nil, fmt.Errorf("objstore: open %s: the path must be absolute: file:///path", u.Redacted())
	}
	var opts FolderOptions
	for name, values := range u.Query() {
		switch v := values[len(values)-1]; {
		case name == "sync" && v == "off":
			opts.NoSync = true
		case name == "sync" && v == "on":
		default:
			return nil, fmt.Errorf("objstore: open %s: unknown option %s=%s: want sync=on or sync=off", u.Redacted(), name, v)
		}
	}
	return OpenFolder(u.Path, opts)
}

// redact keeps what may be a secret, the query and the user, out of an error.
func redact(location string) string {
	location, _, _ = strings.Cut(location, "?")
	if scheme, rest, ok := strings.Cut(location, "://"); ok {
		if _, after, ok := strings.Cut(rest, "@"); ok {
			rest = after
		}
		location = scheme + "://" + rest
	}
	return location
}
