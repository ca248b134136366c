package azure

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirstream/weir/internal/objstore"
	"github.com/weirstream/weir/internal/objstore/objstoretest"
	"github.com/weirstream/weir/internal/objstore/rest"
)

// server returns the endpoint of a real server (deploy/real/azure.sh), or skips.
func server(t *testing.T) string {
	t.Helper()
	endpoint := os.Getenv("WEIR_AZURE_ENDPOINT")
	if endpoint == "" {
		t.Skip("SKIPPED: WEIR_AZURE_ENDPOINT is not set: run deploy/real/azure.sh start; eval \"$(deploy/real/azure.sh env)\"")
	}
	return endpoint
}

// container makes a container of its own for t and returns its name; it is removed
// at the end.
func container(t *testing.T, endpoint string) string {
	t.Helper()
	name := "weir-" + strings.ToLower(rand.Text()[:12])
	s := open(t, Options{Container: name, Endpoint: endpoint})
	call := func(ctx context.Context, method string) {
		t.Helper()
		if _, err := s.client.Send(ctx, rest.Request{Op: "container", Method: method, URL: endpoint + "/" + name + "?restype=container"}); err != nil {
			t.Error(err)
		}
	}
	call(t.Context(), http.MethodPut)
	t.Cleanup(func() { call(context.Background(), http.MethodDelete) })
	return name
}

func open(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConforms(t *testing.T) {
	endpoint := server(t)
	name := container(t, endpoint)
	n := 0
	objstoretest.Run(t, objstoretest.Options{LargeBytes: 3*testPart + 11, Ops: 200, RaceKeys: 50, Refused: []string{`a\b`, "…."}}, func(t *testing.T) objstore.Store {
		n++
		u := &url.URL{Scheme: "az", Host: name, Path: fmt.Sprintf("/some where/ü+%%/%d/", n), RawQuery: url.Values{
			"endpoint": {endpoint}, "part_bytes": {fmt.Sprint(testPart)},
		}.Encode()}
		s, err := objstore.Openers{"az": Open}.Open(t.Context(), u.String())
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

const testPart = 256 << 10

// Without a prefix the container's root is the store's.
func TestWholeBucket(t *testing.T) {
	endpoint := server(t)
	objstoretest.RunRoot(t, open(t, Options{Container: container(t, endpoint), Endpoint: endpoint}))
}

func TestMissingBucket(t *testing.T) {
	objstoretest.RunMissing(t, open(t, Options{Container: "weir-no-such-container", Endpoint: server(t), Tries: 1}), "make the container")
}

// fake is a store whose server answers every request by one function.
type fake struct {
	*Store
	*objstoretest.Server
}

func newFake(t *testing.T, do http.HandlerFunc) *fake {
	t.Helper()
	srv := objstoretest.Serve(t, do)
	return &fake{openFake(t, srv.URL, 20*time.Second).(*Store), srv}
}

func openFake(t *testing.T, endpoint string, wait time.Duration) objstore.Store {
	t.Helper()
	return open(t, Options{Container: "b", Endpoint: endpoint, Anonymous: true, Tries: 2, PartBytes: testPart, ResponseTimeout: wait})
}

func api(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Ms-Error-Code", code)
		w.WriteHeader(status)
	}
}

func TestAnswers(t *testing.T) {
	says := objstoretest.Says
	objstoretest.RunHTTP(t, objstoretest.HTTP{Open: openFake, WrongSum: map[string]string{"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}, Answers: []objstoretest.Answer{
		says("409 that means it exists", api(409, "BlobAlreadyExists"), objstore.ErrExists),
		says("the same in the body alone", objstoretest.Status(409, "\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>BlobAlreadyExists</Code></Error>"), objstore.ErrExists),
		says("412", api(412, "ConditionNotMet"), objstore.ErrExists),
		says("412 without a body", objstoretest.Status(412, ""), objstore.ErrExists),
		says("412 for a lease", api(412, "LeaseIdMissing"), nil),
		says("409 of a container going away", api(409, "ContainerBeingDeleted"), objstore.ErrRetry),
		says("409 for good", api(409, "BlobImmutableDueToPolicy"), nil),
		says("409 of something between", objstoretest.Status(409, ""), objstore.ErrAmbiguous),
		says("429", objstoretest.Status(429, ""), objstore.ErrRetry),
		says("503 of the API", api(503, "ServerBusy"), objstore.ErrRetry),
		says("503 of something between", objstoretest.Status(503, ""), objstore.ErrAmbiguous),
		says("500", api(500, "InternalError"), objstore.ErrAmbiguous),
		says("500 that took too long", api(500, "OperationTimedOut"), objstore.ErrAmbiguous),
		says("504", objstoretest.Status(504, ""), objstore.ErrAmbiguous),
		says("403", api(403, "AuthenticationFailed"), nil),
		says("a redirect", objstoretest.Status(307, ""), nil),
		says("missing container", api(404, "ContainerNotFound"), nil),
	}})
}

func TestRepeats(t *testing.T) {
	open := func(t *testing.T, endpoint string) objstore.Store { return openFake(t, endpoint, 20*time.Second) }
	objstoretest.RunRepeats(t, open, objstoretest.Status(200, `<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>`),
		api(503, "ServerBusy"), api(500, "InternalError"), objstoretest.Lost)
}

// Of an upload in blocks only the last request can leave doubt, and a finished upload
// to the same key that dropped our blocks may be repeated.
func TestBlocks(t *testing.T) {
	for _, tt := range []struct {
		name        string
		block, list http.HandlerFunc
		want        error
	}{
		{"a block is lost", objstoretest.Lost, nil, objstore.ErrRetry},
		{"a block gets 500", api(500, "InternalError"), nil, objstore.ErrRetry},
		{"a block is refused", api(403, "AuthenticationFailed"), nil, nil},
		{"the list is lost", nil, objstoretest.Lost, objstore.ErrAmbiguous},
		{"the list gets 500", nil, api(500, "InternalError"), objstore.ErrAmbiguous},
		{"the list gets 409", nil, api(409, "BlobAlreadyExists"), objstore.ErrExists},
		{"our blocks are gone", nil, api(400, "InvalidBlockList"), objstore.ErrRetry},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lists := atomic.Int64{}
			f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
				do := tt.block
				switch {
				case r.Method == http.MethodHead:
					do = api(404, "BlobNotFound")
				case r.URL.Query().Get("comp") == "blocklist":
					do = tt.list
					lists.Add(1)
				}
				if do == nil {
					do = objstoretest.Status(201, "")
				}
				do(w, r)
			})
			objstoretest.WantClass(t, f.PutIfAbsent(t.Context(), "k", bytes.NewReader(make([]byte, 3*testPart)), 3*testPart), tt.want)
			if lists.Load() > 1 {
				t.Errorf("%d lists, want at most one", lists.Load())
			}
		})
	}
}

// A body that fails in the middle leaves nothing, and its error is told.
func TestBrokenBody(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("comp") == "blocklist" {
			t.Error("the blocks were made an object")
		}
		objstoretest.Status(201, "")(w, r)
	})
	broken := errors.New("broken")
	body := io.MultiReader(bytes.NewReader(make([]byte, 2*testPart)), readerFunc(func([]byte) (int, error) { return 0, broken }))
	if err := f.Put(t.Context(), "k", body, -1); !errors.Is(err, broken) {
		t.Errorf("Put = %v, want the body's error", err)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// lister answers lists of names as an account does: from a marker, or from startFrom
// where it is known; folders makes it one with a hierarchical namespace, which lists
// folder by folder.
func lister(t *testing.T, names []string, startFrom, folders bool) *fake {
	names = slices.Clone(names)
	slices.SortFunc(names, func(a, b string) int {
		if folders {
			a, b = strings.ReplaceAll(a, "/", "\x00"), strings.ReplaceAll(b, "/", "\x00")
		}
		return strings.Compare(a, b)
	})
	return newFake(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		i, err := strconv.Atoi(q.Get("marker"))
		if err != nil && startFrom {
			i = slices.IndexFunc(names, func(n string) bool { return n >= q.Get("startFrom") })
			if i < 0 {
				i = len(names)
			}
		}
		count, err := strconv.Atoi(q.Get("maxresults"))
		if err != nil {
			t.Error(err)
		}
		fmt.Fprint(w, "\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults><Blobs>")
		kind := ""
		if folders {
			kind = "<ResourceType>file</ResourceType>"
			fmt.Fprint(w, "<Blob><Name>a</Name><Properties><Content-Length>0</Content-Length><ResourceType>directory</ResourceType></Properties></Blob>")
		}
		for ; i < len(names) && count > 0; i++ {
			if strings.HasPrefix(names[i], q.Get("prefix")) {
				fmt.Fprintf(w, `<Blob><Name Encoded="true">%s</Name><Properties><Content-Length>1</Content-Length>%s</Properties></Blob>`, url.PathEscape(names[i]), kind)
				count--
			}
		}
		fmt.Fprint(w, "</Blobs><NextMarker>")
		if i < len(names) {
			fmt.Fprint(w, i)
		}
		fmt.Fprint(w, "</NextMarker></EnumerationResults>")
	})
}

// Lists have the order of keys and no gap, whatever the server can do; a walk over
// pages asks once for each.
func TestListOrder(t *testing.T) {
	names := []string{"a-b", "a.b", "a/b", "a/c/d", "a0", "b", "c d", "d%e"}
	for i := range 40 {
		names = append(names, fmt.Sprintf("p/%02d", i))
	}
	slices.Sort(names)
	for _, tt := range []struct {
		name               string
		startFrom, folders bool
	}{{"lists from a name on", true, false}, {"does not", false, false}, {"has folders", false, true}} {
		f := lister(t, names, tt.startFrom, tt.folders)
		for _, limit := range []int{0, 1, 3, 7} {
			f.Requests.Store(0)
			var got []string
			after := ""
			for {
				page, err := f.List(t.Context(), "", after, limit)
				if err != nil {
					t.Fatal(err)
				}
				if len(page) == 0 {
					break
				}
				for _, i := range page {
					got = append(got, i.Key)
				}
				after = got[len(got)-1]
			}
			if !slices.Equal(got, names) {
				t.Errorf("%s, limit %d: %q, want %q", tt.name, limit, got, names)
			}
			if pages := int64(1); limit > 0 && !tt.folders {
				if pages = int64(len(names)/limit) + 3; f.Requests.Load() > pages {
					t.Errorf("%s, limit %d: %d requests, want at most %d: %q", tt.name, limit, f.Requests.Load(), pages, f.Seen())
				}
			}
		}
		page, err := f.List(t.Context(), "p/", "p/17x", 2)
		if err != nil || len(page) != 2 || page[0].Key != "p/18" || page[1].Key != "p/19" {
			t.Errorf("%s: List(p/, p/17x) = %v, %v", tt.name, page, err)
		}
	}
}

// Options come from the URL, the connection string and the environment, with all
// their faults told and no secret.
func TestOptions(t *testing.T) {
	u, err := url.Parse("az:///p?use_emulator=maybe&part_bytes=many&regoin=x")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), u)
	for _, want := range []string{"use_emulator", "part_bytes", "regoin: unknown option: want one of account"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("err = %v, want %q in it", err, want)
		}
	}
	_, err = New(t.Context(), Options{Account: "a", AccountKey: "hush!", PartBytes: -1, ClientSecret: "hush!"})
	for _, want := range []string{"the container is missing", "not base64", "part_bytes -1", "client_secret goes with"} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("err = %v, want %q in it", err, want)
		}
	}
	const connection = "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=a2V5;EndpointSuffix=core.chinacloudapi.cn"
	for _, tt := range []struct {
		url  string
		env  map[string]string
		want string // endpoint, account, key, signature, anonymous
	}{
		{"az://c/p", nil, "the account is missing"},
		{"az://c/p?account=acc", nil, "https://acc.blob.core.windows.net acc   false"},
		{"az://c/p?azure_storage_account_name=acc&azure_storage_account_key=a2V5", nil, "https://acc.blob.core.windows.net acc a2V5  false"},
		{"abfss://c@acc.dfs.core.windows.net/p", nil, "https://acc.blob.core.windows.net acc   false"},
		{"wasbs://c@acc.blob.core.usgovcloudapi.net/p?sas_token=%3Fsv%3D1%26sig%3Dx", nil, "https://acc.blob.core.usgovcloudapi.net acc  sv=1&sig=x false"},
		{"az://c/p", map[string]string{"AZURE_STORAGE_ACCOUNT": "acc", "AZURE_STORAGE_KEY": "a2V5"}, "https://acc.blob.core.windows.net acc a2V5  false"},
		{"az://c/p", map[string]string{"AZURE_STORAGE_CONNECTION_STRING": connection}, "https://acc.blob.core.chinacloudapi.cn acc a2V5  false"},
		{"az://c/p", map[string]string{"AZURE_STORAGE_CONNECTION_STRING": "UseDevelopmentStorage=true"}, "http://127.0.0.1:10000/devstoreaccount1 devstoreaccount1 " + emulatorKey + "  false"},
		{"az://c/p?use_emulator=true", nil, "http://127.0.0.1:10000/devstoreaccount1 devstoreaccount1 " + emulatorKey + "  false"},
		{"az://c/p", map[string]string{"AZURE_STORAGE_USE_EMULATOR": "true"}, "http://127.0.0.1:10000/devstoreaccount1 devstoreaccount1 " + emulatorKey + "  false"},
		{"az://c/p?use_emulator=true", map[string]string{"AZURITE_BLOB_STORAGE_URL": "http://127.0.0.1:9/"}, "http://127.0.0.1:9/devstoreaccount1 devstoreaccount1 " + emulatorKey + "  false"},
		{"az://c/p?account=acc&anonymous=true", nil, "https://acc.blob.core.windows.net acc   true"},
		{"abfss://c@other.dfs.core.windows.net/p", map[string]string{"AZURE_STORAGE_ACCOUNT": "acc", "AZURE_STORAGE_KEY": "a2V5"}, "https://other.blob.core.windows.net other   false"},
		{"az://c/p?connection_string=x", nil, "has the form"},
		{"az://c/p?account=a&endpoint=ftp://x", nil, "want http"},
	} {
		u, err := url.Parse(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		o, err := parseURL(u)
		if err == nil {
			err = o.fill(func(name string) string { return tt.env[name] })
		}
		if got := fmt.Sprint(o.Endpoint, " ", o.Account, " ", o.AccountKey, " ", o.SASToken, " ", o.Anonymous); err != nil && !strings.Contains(err.Error(), tt.want) || err == nil && got != tt.want {
			t.Errorf("%s with %v: %s, %v; want %s", tt.url, tt.env, got, err, tt.want)
		}
	}
}

// A signature stands in the query beside what is asked; errors do not show it.
func TestSharedAccessSignature(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); q.Get("sig") != "s+c/r" || r.Method == http.MethodGet && q.Get("comp") != "list" || r.Header.Get("Authorization") != "" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		objstoretest.Lost(w, r)
	})
	o := f.opts
	o.Anonymous, o.AccountKey, o.SASToken = false, "", "sv=2024-11-04&sig=s%2Bc%2Fr"
	s := open(t, o)
	_, err := s.List(t.Context(), "p", "", 0)
	for _, err := range []error{err, objstore.PutBytes(t.Context(), s, "k", nil)} {
		if err == nil || strings.Contains(err.Error(), "sig=") {
			t.Errorf("err = %v, want one without the signature", err)
		}
	}
}
