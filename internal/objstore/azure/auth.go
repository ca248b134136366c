package azure

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/weirstream/weir/internal/clock"
	"github.com/weirstream/weir/internal/objstore"
)

const scope = "https://storage.azure.com/.default"

// authorizer returns what dates a request and adds credentials to it.
func authorizer(o Options) (func(ctx context.Context, r *http.Request) error, error) {
	sign := func(context.Context, *http.Request) error { return nil }
	switch {
	case o.Anonymous:
	case o.AccountKey != "":
		key, err := base64.StdEncoding.DecodeString(o.AccountKey)
		if err != nil {
			return nil, errors.New("account_key is not base64")
		}
		sign = func(_ context.Context, r *http.Request) error {
			r.Header.Set("Authorization", "SharedKey "+o.Account+":"+signature(key, stringToSign(o.Account, r)))
			return nil
		}
	case o.SASToken != "":
		sign = func(_ context.Context, r *http.Request) error {
			if r.URL.RawQuery != "" {
				r.URL.RawQuery += "&"
			}
			r.URL.RawQuery += o.SASToken
			return nil
		}
	default:
		t := &tokens{clock: o.Clock, opts: o}
		sign = func(ctx context.Context, r *http.Request) error {
			if r.URL.Scheme != "https" {
				return errors.New("a token is not sent without TLS: give an https endpoint, or account_key")
			}
			token, err := t.get(ctx)
			if err == nil {
				r.Header.Set("Authorization", "Bearer "+token)
			}
			return err
		}
	}
	return func(ctx context.Context, r *http.Request) error {
		r.Header.Set("X-Ms-Date", o.Clock.Now().UTC().Format(http.TimeFormat))
		r.Header.Set("X-Ms-Version", o.APIVersion)
		return sign(ctx, r)
	}, nil
}

func signature(key []byte, text string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// stringToSign is the canonical form of a request that the account's key signs, as
// of version 2015-02-21 of the service: the method, the standard headers in a fixed
// order, the x-ms headers sorted, the account and the path, the query sorted.
func stringToSign(account string, r *http.Request) string {
	var b strings.Builder
	b.WriteString(r.Method)
	for _, name := range []string{
		"Content-Encoding", "Content-Language", "Content-Length", "Content-MD5", "Content-Type",
		"Date", "If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range",
	} {
		b.WriteByte('\n')
		if name == "Content-Length" {
			if r.ContentLength > 0 {
				fmt.Fprint(&b, r.ContentLength)
			}
			continue
		}
		b.WriteString(r.Header.Get(name))
	}
	b.WriteByte('\n')
	for _, line := range canonical(r.Header, func(name string) bool { return strings.HasPrefix(name, "x-ms-") }) {
		b.WriteString(line + "\n")
	}
	b.WriteString("/" + account + r.URL.EscapedPath())
	for _, line := range canonical(r.URL.Query(), func(string) bool { return true }) {
		b.WriteString("\n" + line)
	}
	return b.String()
}

// canonical returns lines name:value,value sorted by the name in lower case.
func canonical(values map[string][]string, want func(name string) bool) []string {
	type entry struct{ name, line string }
	var entries []entry
	for name, vs := range values {
		if name = strings.ToLower(name); want(name) {
			vs = slices.Sorted(slices.Values(vs))
			entries = append(entries, entry{name, name + ":" + strings.Join(vs, ",")})
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	lines := make([]string, len(entries))
	for i, e := range entries {
		lines[i] = e.line
	}
	return lines
}

// tokens keeps a token of Entra until it is about to end.
type tokens struct {
	clock clock.Clock
	opts  Options

	mu         sync.Mutex
	credential azcore.TokenCredential // nil until first wanted; guarded by mu
	token      azcore.AccessToken     // guarded by mu
}

func (t *tokens) get(ctx context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.token.Token != "" && t.token.ExpiresOn.Sub(t.clock.Now()) > 5*time.Minute {
		return t.token.Token, nil
	}
	if t.credential == nil {
		var err error
		if t.opts.ClientSecret != "" {
			t.credential, err = azidentity.NewClientSecretCredential(t.opts.TenantID, t.opts.ClientID, t.opts.ClientSecret, nil)
		} else {
			t.credential, err = azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{TenantID: t.opts.TenantID})
		}
		if err != nil {
			return "", fmt.Errorf("credentials: %w", err)
		}
	}
	token, err := t.credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
	var network net.Error
	var answer *azcore.ResponseError
	switch {
	case err == nil:
		t.token = token
		return token.Token, nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.As(err, &network), errors.As(err, &answer) && answer.StatusCode >= 500:
		return "", fmt.Errorf("get a token: %w: %w", objstore.ErrRetry, err)
	}
	return "", fmt.Errorf("get a token (set AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, AZURE_CLIENT_ID and its like, or run az login): %w", err)
}
