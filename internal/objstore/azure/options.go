package azure

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/objstore"
)

// Options configures New of one container. A zero field means its default; what is
// left open is looked for in the environment, under the names that Azure's own
// tools and delta-rs read.
type Options struct {
	Account   string // AZURE_STORAGE_ACCOUNT, AZURE_STORAGE_ACCOUNT_NAME
	Container string // required
	Prefix    string // keys are below it; none

	// Endpoint is the URL of the account's blob service: AZURE_STORAGE_ENDPOINT, else
	// https://ACCOUNT.blob.core.windows.net.
	Endpoint string

	// ConnectionString gives account, key or signature, and endpoint at once;
	// AZURE_STORAGE_CONNECTION_STRING.
	ConnectionString string

	// What requests are authorized with, the first that is there: nothing at all
	// (emulators, public containers; AZURE_SKIP_SIGNATURE), the account's key
	// (AZURE_STORAGE_KEY, AZURE_STORAGE_ACCOUNT_KEY), a shared access signature
	// (AZURE_STORAGE_SAS_TOKEN), an application of Entra, else what Azure's own tools
	// find: AZURE_CLIENT_ID and its like, the machine's identity, az login.
	Anonymous                        bool
	AccountKey                       string // base64
	SASToken                         string
	TenantID, ClientID, ClientSecret string

	// UseEmulator means the account, key and address that Microsoft's emulator,
	// Azurite, has by itself, the address also from AZURITE_BLOB_STORAGE_URL;
	// AZURE_STORAGE_USE_EMULATOR.
	UseEmulator bool

	APIVersion string // x-ms-version; 2026-02-06, the first one that can list from a name on

	PartBytes int64 // size of a block of a large object, and of the largest body sent in one request; 8 MiB
	Parallel  int   // blocks in flight per object; 4
	Tries     int   // of a request that may be repeated; 3

	// ResponseTimeout bounds the wait for the first byte of an answer; 60s. A write
	// that exceeds it is ambiguous.
	ResponseTimeout time.Duration

	Clock clock.Clock // dates requests; the wall clock
}

const (
	maxBlocks = 50_000
	maxBlock  = 4000 << 20

	// The emulator's account is public: it stands in Microsoft's documentation.
	emulatorAccount  = "devstoreaccount1"
	emulatorKey      = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
	emulatorEndpoint = "http://127.0.0.1:10000/" + emulatorAccount
)

// fill sets the defaults, reading the environment by env, and reports all that is
// wrong.
func (o *Options) fill(env func(string) string) error {
	var errs []error
	if err := o.fillAccount(env); err != nil {
		errs = append(errs, err)
	}
	if o.APIVersion == "" {
		o.APIVersion = "2026-02-06"
	}
	if o.PartBytes == 0 {
		o.PartBytes = 8 << 20
	}
	if o.Parallel == 0 {
		o.Parallel = 4
	}
	if o.Tries == 0 {
		o.Tries = 3
	}
	if o.ResponseTimeout == 0 {
		o.ResponseTimeout = time.Minute
	}
	if o.Clock == nil {
		o.Clock = clock.Wall()
	}
	o.Prefix = strings.Trim(o.Prefix, "/")
	if o.Container == "" {
		errs = append(errs, errors.New("the container is missing: want az://container/prefix or abfss://container@account.dfs.core.windows.net/prefix"))
	}
	if o.Prefix != "" {
		if err := objstore.CheckKey(o.Prefix); err != nil {
			errs = append(errs, fmt.Errorf("prefix: %w", err))
		}
	}
	if _, err := base64.StdEncoding.DecodeString(o.AccountKey); err != nil {
		errs = append(errs, errors.New("account_key is not base64"))
	}
	if (o.ClientSecret != "") && (o.TenantID == "" || o.ClientID == "") {
		errs = append(errs, errors.New("client_secret goes with tenant_id and client_id"))
	}
	if o.PartBytes < 1 || o.PartBytes > maxBlock {
		errs = append(errs, fmt.Errorf("part_bytes %d is not between 1 and %d", o.PartBytes, maxBlock))
	}
	if o.Parallel < 1 {
		errs = append(errs, fmt.Errorf("parallel %d is below 1", o.Parallel))
	}
	if o.Tries < 1 {
		errs = append(errs, fmt.Errorf("tries %d is below 1", o.Tries))
	}
	if o.ResponseTimeout < 0 {
		errs = append(errs, fmt.Errorf("response_timeout %v is negative", o.ResponseTimeout))
	}
	return errors.Join(errs...)
}

// fillAccount finds the account, its address and its credentials. What the
// environment has for another account is left alone.
func (o *Options) fillAccount(env func(string) string) error {
	if o.UseEmulator || o.Account == "" && o.Endpoint == "" && o.ConnectionString == "" && yes(env("AZURE_STORAGE_USE_EMULATOR")) {
		set(&o.Account, emulatorAccount)
		if host := env("AZURITE_BLOB_STORAGE_URL"); host != "" {
			set(&o.Endpoint, strings.TrimRight(host, "/")+"/"+o.Account)
		}
		set(&o.Endpoint, emulatorEndpoint)
		if o.SASToken == "" && !o.Anonymous {
			set(&o.AccountKey, emulatorKey)
		}
	}
	if err := o.fillFrom(o.ConnectionString); err != nil {
		return err
	}
	var there Options // what the environment describes
	if err := there.fillFrom(env("AZURE_STORAGE_CONNECTION_STRING")); err != nil {
		return fmt.Errorf("AZURE_STORAGE_CONNECTION_STRING: %w", err)
	}
	set(&there.Account, cmp.Or(env("AZURE_STORAGE_ACCOUNT"), env("AZURE_STORAGE_ACCOUNT_NAME")))
	set(&there.AccountKey, cmp.Or(env("AZURE_STORAGE_KEY"), env("AZURE_STORAGE_ACCOUNT_KEY"), env("AZURE_STORAGE_ACCESS_KEY")))
	set(&there.SASToken, cmp.Or(env("AZURE_STORAGE_SAS_TOKEN"), env("AZURE_STORAGE_SAS_KEY")))
	set(&there.Endpoint, cmp.Or(env("AZURE_STORAGE_ENDPOINT"), env("AZURE_ENDPOINT")))
	if o.Account == "" || there.Account == "" || o.Account == there.Account {
		set(&o.Account, there.Account)
		set(&o.Endpoint, there.Endpoint)
		if o.AccountKey == "" && o.SASToken == "" && o.ClientSecret == "" {
			o.AccountKey, o.SASToken = there.AccountKey, there.SASToken
		}
	}
	o.Anonymous = o.Anonymous || yes(env("AZURE_SKIP_SIGNATURE"))
	if o.Endpoint == "" && o.Account != "" {
		o.Endpoint = "https://" + o.Account + ".blob.core.windows.net"
	}
	o.Endpoint = strings.TrimRight(o.Endpoint, "/")
	o.SASToken = strings.TrimPrefix(o.SASToken, "?")
	u, err := url.Parse(o.Endpoint)
	switch {
	case o.Endpoint == "":
		return errors.New("the account is missing: set AZURE_STORAGE_ACCOUNT, or say ?account=NAME")
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("endpoint %q: want http://host:port/account or https://account.blob.core.windows.net", o.Endpoint)
	case o.Account == "" && o.AccountKey != "":
		return errors.New("account_key needs an account")
	}
	return nil
}

// fillFrom sets what is open from a connection string.
func (o *Options) fillFrom(s string) error {
	if s == "" {
		return nil
	}
	values := map[string]string{}
	for field := range strings.SplitSeq(strings.Trim(s, "; "), ";") {
		name, value, ok := strings.Cut(field, "=")
		if !ok {
			return errors.New("a connection string has the form Name=Value;Name=Value")
		}
		values[strings.ToLower(strings.TrimSpace(name))] = value
	}
	if yes(values["usedevelopmentstorage"]) {
		values = map[string]string{"accountname": emulatorAccount, "accountkey": emulatorKey, "blobendpoint": emulatorEndpoint}
	}
	set(&o.Account, values["accountname"])
	set(&o.AccountKey, values["accountkey"])
	set(&o.SASToken, values["sharedaccesssignature"])
	set(&o.Endpoint, values["blobendpoint"])
	if suffix := values["endpointsuffix"]; suffix != "" && o.Account != "" {
		protocol := values["defaultendpointsprotocol"]
		set(&protocol, "https")
		set(&o.Endpoint, protocol+"://"+o.Account+".blob."+suffix)
	}
	return nil
}

// set gives an empty text its default.
func set(p *string, v string) {
	if *p == "" {
		*p = v
	}
}

func yes(s string) bool {
	v, err := strconv.ParseBool(s)
	return err == nil && v
}

// Schemes are the URL schemes that Open takes.
func Schemes() []string { return []string{"az", "azure", "adl", "abfs", "abfss", "wasb", "wasbs"} }

// Open opens the container that u names, in one of the forms
//
//	az://container/prefix
//	abfss://container@account.dfs.core.windows.net/prefix
//
// with any of the options
//
//	account account_key sas_token connection_string tenant_id client_id client_secret
//	endpoint anonymous use_emulator api_version part_bytes parallel tries response_timeout
//
// where delta-rs's names for the same, azure_storage_account_name and its like, are
// taken too. It makes no request: what is wrong with the container is told by the
// first call. It is an objstore.Opener.
func Open(ctx context.Context, u *url.URL) (objstore.Store, error) {
	opts, err := parseURL(u)
	if err != nil {
		return nil, fmt.Errorf("objstore/azure: open az://%s%s: %w", opts.Container, u.Path, err)
	}
	return New(ctx, opts)
}

// aliases are delta-rs's names of options.
var aliases = map[string]string{
	"account_name": "account", "key": "account_key", "access_key": "account_key", "master_key": "account_key",
	"sas_key": "sas_token", "skip_signature": "anonymous", "authority_id": "tenant_id", "authority_key": "client_secret",
}

func parseURL(u *url.URL) (Options, error) {
	o := Options{Container: u.Host, Prefix: u.Path}
	var errs []error
	if u.User != nil { // container@account.dfs.core.windows.net
		o.Container = u.User.Username()
		account, domain, ok := strings.Cut(u.Host, ".")
		if !ok {
			errs = append(errs, fmt.Errorf("%s is not an account's host: want account.dfs.core.windows.net", u.Host))
		}
		o.Account = account
		domain = strings.TrimPrefix(strings.TrimPrefix(domain, "dfs."), "blob.")
		o.Endpoint = "https://" + account + ".blob." + domain
	}
	err := objstore.URLOptions{
		"account": &o.Account, "account_key": &o.AccountKey, "sas_token": &o.SASToken, "connection_string": &o.ConnectionString,
		"tenant_id": &o.TenantID, "client_id": &o.ClientID, "client_secret": &o.ClientSecret, "anonymous": &o.Anonymous,
		"endpoint": &o.Endpoint, "use_emulator": &o.UseEmulator, "api_version": &o.APIVersion,
		"part_bytes": &o.PartBytes, "parallel": &o.Parallel, "tries": &o.Tries, "response_timeout": &o.ResponseTimeout,
	}.Parse(u.Query(), func(name string) string {
		name = strings.TrimPrefix(strings.TrimPrefix(strings.ToLower(name), "azure_"), "storage_")
		return cmp.Or(aliases[name], name)
	})
	return o, errors.Join(append(errs, err)...)
}
