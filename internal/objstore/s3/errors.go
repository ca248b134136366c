package s3

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/weirstream/weir/internal/objstore"
)

// effect says what a request may have done when its answer is lost.
type effect uint8

const (
	reading effect = iota // nothing that anyone sees: a read, or a part of an upload
	writing               // it may have happened
)

// fail turns an error of the SDK into one of objstore's.
func (s *Store) fail(ctx context.Context, e effect, op, key string, err error) error {
	hint, class := classify(e, err)
	if ctx.Err() != nil && (class == objstore.ErrRetry || class == objstore.ErrAmbiguous) {
		err = context.Cause(ctx)
		if e == reading {
			class = nil // not the store's failure: repeating it will not help
		}
	}
	if hint != "" {
		hint = " (" + hint + ")"
	}
	if class == nil {
		return fmt.Errorf("objstore/s3: %s %s: %w%s", op, s.name(key), err, hint)
	}
	return fmt.Errorf("objstore/s3: %s %s: %w%s: %w", op, s.name(key), class, hint, err)
}

// classify looks at the API's own error code first, then at the status of the
// answer, then at whether there was an answer at all.
//
//	code or status                            reading      writing
//	NoSuchKey, NotFound, 404                  ErrNotFound  ErrNotFound
//	InvalidRange, 416                         ErrRange     -
//	PreconditionFailed, 412                   -            ErrExists
//	409 ConditionalRequestConflict and the
//	like; NoSuchUpload; throttling; 503 by
//	the API; RequestTimeout                   ErrRetry     ErrRetry (no effect)
//	other 5xx                                 ErrRetry     ErrAmbiguous
//	no connection was made                    ErrRetry     ErrRetry
//	no answer                                 ErrRetry     ErrAmbiguous
//	anything else                             final        final
func classify(e effect, err error) (hint string, class error) {
	var code string
	var status int
	var api smithy.APIError
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	var resp *awshttp.ResponseError
	if errors.As(err, &resp) {
		status = resp.HTTPStatusCode()
		if code == "ServiceUnavailable" && resp.ServiceRequestID() == "" {
			code = "" // the SDK's word for a 503 without a body: a proxy's, which knows nothing
		}
	}
	lost := objstore.ErrRetry
	if e == writing {
		lost = objstore.ErrAmbiguous
	}
	if slow(code) {
		return "", objstore.ErrRetry
	}
	switch code {
	case "NoSuchKey", "NotFound":
		return "", objstore.ErrNotFound
	case "NoSuchBucket":
		return "make the bucket, or correct the URL", nil
	case "InvalidRange":
		return "", objstore.ErrRange
	case "PreconditionFailed":
		return "", objstore.ErrExists
	case "ConditionalRequestConflict", "OperationAborted", "NoSuchUpload", "RequestTimeout":
		return "", objstore.ErrRetry
	case "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken":
		return "check access_key and secret_key, or the AWS_* environment, and the bucket's policy", nil
	case "RequestTimeTooSkewed":
		return "set this machine's clock", nil
	}
	switch {
	case status == http.StatusNotFound:
		return "", objstore.ErrNotFound
	case status == http.StatusRequestedRangeNotSatisfiable:
		return "", objstore.ErrRange
	case status == http.StatusPreconditionFailed:
		return "", objstore.ErrExists
	case status == http.StatusConflict, status == http.StatusTooManyRequests:
		return "", objstore.ErrRetry
	case status >= 500:
		return "", lost
	case status >= 300:
		return "", nil
	}
	// No status: no answer, or one that broke off.
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return "is the endpoint right and up?", objstore.ErrRetry
	}
	var sent *smithy.OperationError
	if !errors.As(err, &sent) || isTransport(err) {
		return "", lost
	}
	return "", nil // the SDK refused to send it: no credentials, a bad endpoint
}

// slow reports whether an API's code says that it did nothing because it has too
// much to do.
func slow(code string) bool {
	switch code {
	case "SlowDown", "ServiceUnavailable", "Throttling", "ThrottlingException", "TooManyRequests", "TooManyRequestsException",
		"RequestLimitExceeded", "BandwidthLimitExceeded":
		return true
	}
	return false
}

// throttled reports whether the API itself answered so.
func throttled(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	_, class := classify(writing, err)
	return slow(api.ErrorCode()) && class == objstore.ErrRetry // not a proxy's 503, which looks alike
}

// isTransport reports whether err comes from sending a request or reading its
// answer, and not from preparing it.
func isTransport(err error) bool {
	var send *smithyhttp.RequestSendError
	var canceled *smithy.CanceledError
	var resp *awshttp.ResponseError
	var decode *smithy.DeserializationError
	var network net.Error
	return errors.As(err, &send) || errors.As(err, &canceled) || errors.As(err, &resp) || errors.As(err, &decode) || errors.As(err, &network)
}
