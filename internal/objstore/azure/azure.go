// Package azure keeps objects in a container of Azure Blob Storage, or of a server
// that speaks its protocol and honours If-None-Match.
//
// It calls the API itself, since Azure's client and gocloud's driver over it repeat
// conditional writes and then take their own object for somebody else's
// (docs/rfc/20261123-gcs-azure-clients.md). Tokens of Entra come from Azure's
// azidentity.
//
// Concurrency: a Store is safe for concurrent use.
//
// Durability: the container's. What decides a write is one request, Put Blob or Put
// Block List. A conditional one is sent once; a lost answer is
// objstore.ErrAmbiguous.
package azure

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/internal/objstore/rest"
)

// A Store keeps objects below a prefix of a container. It implements
// objstore.Store. Keys with a backslash or with a segment that ends in a dot are
// refused with objstore.ErrKey: Azure would store them under another name.
type Store struct {
	client rest.Client
	opts   Options
	base   string // what keys are below: empty, or ends in '/'

	mu      sync.Mutex
	markers map[listed]string // where a list goes on after a page; guarded by mu
}

// listed is a page that was returned: its prefix and its last key.
type listed struct{ prefix, last string }

// New opens one container. It makes no request; tokens are fetched by the first
// one.
func New(_ context.Context, opts Options) (*Store, error) {
	err := opts.fill(os.Getenv)
	s := &Store{opts: opts, markers: map[listed]string{}}
	if err == nil {
		s.client.Authorize, err = authorizer(opts)
	}
	if err != nil {
		return nil, fmt.Errorf("objstore/azure: open az://%s: %w", opts.Container, err)
	}
	if opts.Prefix != "" {
		s.base = opts.Prefix + "/"
	}
	s.client.HTTP, s.client.Label, s.client.Name = rest.NewHTTP(opts.ResponseTimeout), "objstore/azure", s.name
	s.client.Tries, s.client.Judge = opts.Tries, judge
	return s, nil
}

func (s *Store) name(key string) string { return "az://" + s.opts.Container + "/" + s.base + key }

// blob is the URL of an object.
func (s *Store) blob(key string) string {
	var b strings.Builder
	b.WriteString(s.opts.Endpoint + "/" + url.PathEscape(s.opts.Container))
	for seg := range strings.SplitSeq(s.base+key, "/") {
		b.WriteString("/" + url.PathEscape(seg))
	}
	return b.String()
}

func check(ctx context.Context, keys ...string) error {
	for _, k := range keys {
		if err := checkKey(k); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// checkKey refuses what Azure does not keep as it is.
func checkKey(key string) error {
	if err := objstore.CheckKey(key); err != nil {
		return err
	}
	if strings.Contains(key, `\`) {
		return fmt.Errorf("objstore/azure: %w %q: Azure takes a backslash for a slash", objstore.ErrKey, key)
	}
	for seg := range strings.SplitSeq(key, "/") {
		if strings.HasSuffix(seg, ".") {
			return fmt.Errorf("objstore/azure: %w %q: Azure drops a dot at the end of a segment", objstore.ErrKey, key)
		}
	}
	return nil
}

func info(key string, h http.Header, size int64) objstore.Info {
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	if err != nil {
		modified = time.Time{}
	}
	return objstore.Info{Key: key, Size: size, ModTime: modified, ETag: strings.Trim(h.Get("Etag"), `"`)}
}

// Get implements objstore.Store. The bytes of an object that has a checksum are
// checked against it at their end.
func (s *Store) Get(ctx context.Context, key string) (io.ReadCloser, objstore.Info, error) {
	if err := check(ctx, key); err != nil {
		return nil, objstore.Info{}, err
	}
	r := s.media(key)
	resp, err := s.client.ReOpen(ctx, r)
	if err != nil {
		return nil, objstore.Info{}, err
	}
	var sum *rest.Sum
	if want := resp.Header.Get("Content-Md5"); want != "" {
		h := md5.New()
		sum = &rest.Sum{Writer: h, OK: func() bool { return base64.StdEncoding.EncodeToString(h.Sum(nil)) == want }}
	}
	return s.client.Reader(ctx, r, resp.Body, sum), info(key, resp.Header, resp.ContentLength), nil
}

// media is the request for an object's bytes.
func (s *Store) media(key string) rest.Request {
	return rest.Request{Op: "get", Key: key, Method: http.MethodGet, URL: s.blob(key)}
}

// GetRange implements objstore.Store.
func (s *Store) GetRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := check(ctx, key); err != nil {
		return nil, err
	}
	return s.client.GetRange(ctx, s, s.media(key), offset, length)
}

// Stat implements objstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (objstore.Info, error) {
	if err := check(ctx, key); err != nil {
		return objstore.Info{}, err
	}
	resp, err := s.client.ReOpen(ctx, rest.Request{Op: "stat", Key: key, Method: http.MethodHead, URL: s.blob(key)})
	if err != nil {
		return objstore.Info{}, err
	}
	resp.Body.Close()
	return info(key, resp.Header, resp.ContentLength), nil
}

// blobs is a page of the API's list.
type blobs struct {
	Blobs []struct {
		Name struct {
			Encoded bool   `xml:"Encoded,attr"`
			Text    string `xml:",chardata"`
		}
		Properties struct {
			Modified     string `xml:"Last-Modified"`
			ETag         string `xml:"Etag"`
			Size         int64  `xml:"Content-Length"`
			ResourceType string // of accounts with a hierarchical namespace only
		}
	} `xml:"Blobs>Blob"`
	Next string `xml:"NextMarker"`
}

const maxPage = 5000

// List implements objstore.Store. Keys that no store takes, such as the folder
// marks of other tools, are left out.
//
// An account with a hierarchical namespace lists folder by folder, which is not the
// order of keys; there all of prefix is read and sorted, and limit 0 returns it in
// one page.
func (s *Store) List(ctx context.Context, prefix, startAfter string, limit int) ([]objstore.Info, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	count := limit
	if count <= 0 || count >= maxPage {
		count = maxPage - 1
	}
	from, ask, marker := startAfter, count, s.marker(prefix, startAfter)
	switch {
	case marker != "":
		from = "" // the marker says it
	case from != "":
		ask++ // it may be the first of the page itself
	}
	for {
		page, next, folders, err := s.page(ctx, prefix, from, marker, ask)
		if err != nil {
			return nil, err
		}
		if folders {
			return s.sorted(ctx, prefix, startAfter, limit)
		}
		page = slices.DeleteFunc(page, func(i objstore.Info) bool { return i.Key <= startAfter })
		if len(page) > count {
			page, next = page[:count], ""
		}
		if len(page) > 0 || next == "" {
			s.remember(prefix, page, next)
			return page, nil
		}
		from, ask, marker = "", maxPage, next // the server began at the beginning
	}
}

// page reads one page of the API's list; folders says that it has the order of a
// hierarchical namespace.
func (s *Store) page(ctx context.Context, prefix, from, marker string, count int) (page []objstore.Info, next string, folders bool, _ error) {
	query := url.Values{"restype": {"container"}, "comp": {"list"}, "maxresults": {strconv.Itoa(count)}}
	if s.base+prefix != "" {
		query.Set("prefix", s.base+prefix)
	}
	if from != "" {
		query.Set("startFrom", s.base+from) // servers that do not know it begin at the beginning
	}
	if marker != "" {
		query.Set("marker", marker)
	}
	r := rest.Request{Op: "list", Key: prefix, Method: http.MethodGet, URL: s.opts.Endpoint + "/" + url.PathEscape(s.opts.Container) + "?" + query.Encode()}
	a, err := s.client.Repeat(ctx, r)
	if err != nil {
		return nil, "", false, err
	}
	var out blobs
	if err := xml.Unmarshal(a.Body, &out); err != nil {
		return nil, "", false, s.client.Fail(ctx, r, rest.Verdict{}, err)
	}
	for _, b := range out.Blobs {
		name := b.Name.Text
		if b.Name.Encoded {
			if name, err = url.PathUnescape(name); err != nil {
				return nil, "", false, s.client.Fail(ctx, r, rest.Verdict{}, err)
			}
		}
		folders = folders || b.Properties.ResourceType != ""
		key, ok := strings.CutPrefix(name, s.base)
		if !ok || checkKey(key) != nil || strings.EqualFold(b.Properties.ResourceType, "directory") {
			continue
		}
		modified, err := http.ParseTime(b.Properties.Modified)
		if err != nil {
			modified = time.Time{}
		}
		page = append(page, objstore.Info{Key: key, Size: b.Properties.Size, ModTime: modified, ETag: strings.Trim(b.Properties.ETag, `"`)})
	}
	return page, out.Next, folders, nil
}

// sorted reads all of prefix and returns what is asked of it in the order of keys.
func (s *Store) sorted(ctx context.Context, prefix, startAfter string, limit int) ([]objstore.Info, error) {
	var all []objstore.Info
	for marker, first := "", true; first || marker != ""; first = false {
		page, next, _, err := s.page(ctx, prefix, "", marker, maxPage)
		if err != nil {
			return nil, err
		}
		all, marker = append(all, page...), next
	}
	all = slices.DeleteFunc(all, func(i objstore.Info) bool { return i.Key <= startAfter })
	slices.SortFunc(all, func(a, b objstore.Info) int { return cmp.Compare(a.Key, b.Key) })
	if limit > 0 && len(all) > limit {
		all = all[:limit]
	}
	return all, nil
}

// marker returns where the list of prefix goes on after a page that ended with last,
// or nothing.
func (s *Store) marker(prefix, last string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.markers[listed{prefix, last}]
}

// remember keeps the marker behind a page, so that a walk over the pages need not
// begin at the beginning where the server cannot list from a name on.
func (s *Store) remember(prefix string, page []objstore.Info, next string) {
	if next == "" || len(page) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.markers) >= 64 {
		clear(s.markers)
	}
	s.markers[listed{prefix, page[len(page)-1].Key}] = next
}

// Copy implements objstore.Store, through this process: a copy on the server needs
// a signature for its source that not every kind of credential can give.
func (s *Store) Copy(ctx context.Context, dst, src string) error {
	if err := check(ctx, dst, src); err != nil {
		return err
	}
	r, info, err := s.Get(ctx, src)
	if err != nil {
		return err
	}
	defer r.Close()
	return s.Put(ctx, dst, r, info.Size)
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	_, err := s.client.Repeat(ctx, rest.Request{Op: "delete", Key: key, Effect: rest.Writing, Method: http.MethodDelete, URL: s.blob(key),
		Header: map[string]string{"X-Ms-Delete-Snapshots": "include"}})
	if errors.Is(err, objstore.ErrNotFound) {
		return nil
	}
	return err
}

// Close implements objstore.Store.
func (s *Store) Close() error {
	s.client.HTTP.CloseIdleConnections()
	return nil
}

// judge looks at the API's own error code first, then at the status.
//
//	code or status                            reading      writing
//	BlobNotFound, 404 without a code          ErrNotFound  ErrNotFound
//	InvalidRange, 416                         ErrRange     -
//	BlobAlreadyExists (409!), ConditionNotMet
//	(412), 412 without a code                 -            ErrExists
//	ContainerBeingDeleted, InvalidBlockList,
//	ServerBusy, 429 and the like              ErrRetry     ErrRetry (no effect)
//	other 5xx, 409 without a code             ErrRetry     ErrAmbiguous
//	anything else                             final        final
func judge(e rest.Effect, a *rest.Answer) rest.Verdict {
	code := a.Header.Get("X-Ms-Error-Code")
	if code == "" {
		var said struct{ Code string }
		if xml.Unmarshal(bytes.TrimPrefix(a.Body, []byte("\xef\xbb\xbf")), &said) == nil {
			code = said.Code
		}
	}
	switch code {
	case "BlobNotFound":
		return rest.Verdict{Class: objstore.ErrNotFound}
	case "ContainerNotFound", "ResourceNotFound", "AccountIsDisabled":
		return rest.Verdict{Hint: "make the container, or correct the URL"}
	case "InvalidRange":
		return rest.Verdict{Class: objstore.ErrRange}
	case "BlobAlreadyExists", "ConditionNotMet":
		return rest.Verdict{Class: objstore.ErrExists}
	case "ContainerBeingDeleted", "ServerBusy", "TooManyRequests",
		"InvalidBlockList": // another upload to this key was finished meanwhile, which drops the blocks of all others
		return rest.Verdict{Class: objstore.ErrRetry}
	case "AuthenticationFailed", "AuthorizationFailure", "AuthorizationPermissionMismatch", "InvalidAuthenticationInfo", "NoAuthenticationInformation", "InsufficientAccountPermissions":
		return rest.Verdict{Hint: "check the account, its key or signature, the role of the identity, and this machine's clock"}
	}
	switch {
	case a.Status >= 500, code == "" && (a.Status == http.StatusConflict || a.Status == http.StatusRequestTimeout):
		return rest.Lost(e)
	case a.Status == http.StatusTooManyRequests:
		return rest.Verdict{Class: objstore.ErrRetry}
	case code != "":
		return rest.Verdict{}
	case a.Status == http.StatusNotFound:
		return rest.Verdict{Class: objstore.ErrNotFound}
	case a.Status == http.StatusRequestedRangeNotSatisfiable:
		return rest.Verdict{Class: objstore.ErrRange}
	case a.Status == http.StatusPreconditionFailed:
		return rest.Verdict{Class: objstore.ErrExists}
	}
	return rest.Verdict{}
}
