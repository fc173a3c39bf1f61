package admin

import (
	"errors"
	"io"
	"net/http"

	"github.com/tokenbudget/tokenbudget/internal/overrides"
)

// Overrides is what has and changes the amounts that stand above the configuration
// file's. Its methods may be called at the same time.
type Overrides interface {
	List() []overrides.Shown
	// Put sets the override that r asks for. It is kept when Put returns nil.
	Put(budget string, r overrides.Request, by Author) (overrides.Shown, error)
	// Delete takes back the override of r's subject. It is gone for good when Delete
	// returns nil.
	Delete(budget string, r overrides.Request, by Author) (overrides.Shown, error)
}

// Author says who changes something.
type Author struct {
	Who    string // "token", or "certificate" and its subject
	Remote string // address
}

// Errors of [Overrides]. All others are mistakes of the client.
var (
	// ErrAbsent means that there is no such override.
	ErrAbsent = errors.New("there is no override of this subject")
	// ErrNotKept means that a change could not be written, or not be put into effect.
	ErrNotKept = errors.New("the change may be lost")
)

// OverrideList is the body of GET /v1/overrides.
type OverrideList struct {
	Overrides []overrides.Shown `json:"overrides"`
}

func (o Options) handleOverrides(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/overrides", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, OverrideList{o.Overrides.List()})
	})
	write := func(put bool, change func(string, overrides.Request, Author) (overrides.Shown, error)) http.Handler {
		return o.guardWriting(func(w http.ResponseWriter, r *http.Request) {
			data, err := io.ReadAll(io.LimitReader(r.Body, overrides.MaxRequest+1))
			if err != nil {
				reply(w, http.StatusBadRequest, failure("the body could not be read: "+err.Error()))
				return
			}
			if len(data) > overrides.MaxRequest {
				reply(w, http.StatusRequestEntityTooLarge, failure("the body is too large; shorten the reason"))
				return
			}
			request, err := overrides.ParseRequest(data, put)
			if err != nil {
				reply(w, http.StatusBadRequest, failure(err.Error()))
				return
			}
			shown, err := change(r.PathValue("budget"), request, Author{who(r), r.RemoteAddr})
			switch {
			case err == nil:
				reply(w, http.StatusOK, shown)
			case errors.Is(err, overrides.ErrUnknown), errors.Is(err, ErrAbsent):
				reply(w, http.StatusNotFound, failure(err.Error()))
			case errors.Is(err, overrides.ErrFull):
				reply(w, http.StatusConflict, failure(err.Error()))
			case errors.Is(err, ErrNotKept):
				reply(w, http.StatusInternalServerError, failure(err.Error()))
			default:
				reply(w, http.StatusBadRequest, failure(err.Error()))
			}
		})
	}
	mux.Handle("PUT /v1/overrides/{budget}", write(true, o.Overrides.Put))
	mux.Handle("DELETE /v1/overrides/{budget}", write(false, o.Overrides.Delete))
}
