// Package h1 serves plain HTTP/1.1 requests at a fraction of what net/http's server costs, and leaves everything else to it.
//
// A connection begins here. As long as its requests are of the plainest kind (parse.go says which), they are read, handled
// and answered by one goroutine, with one read and one write. The first request that is anything else, be it HTTP/2, a
// chunked body, an odd header or an attack, goes to the http.Server behind, unread, together with the connection and for
// the rest of its life. So there is one judge of what is malformed, and this package never has to refuse anything.
//
// Handlers see what they would see behind net/http: the same *http.Request, a ResponseWriter that takes deadlines and
// flushes, a context that ends when the client goes away (noticed within two tenths of a second), http.ErrAbortHandler.
// A ResponseWriter can't be hijacked, guesses no content type, and sends no informational answers.
package h1
