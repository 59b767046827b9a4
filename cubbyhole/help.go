package cubbyhole

import "github.com/bailiff-secrets/bailiff/gate"

const mountHelp = `A small store of the token's own. Nobody else can read or write it, nor see that it is there, and it is gone when the
token ends.

    <path>    read, write, list, delete
`

const pathHelp = `An entry of the token's own store: a JSON object, read and written whole. It is sealed at rest, and gone when the
token ends.
`

func help(path string) *gate.Response {
	text := pathHelp
	if path == "" {
		text = mountHelp
	}
	return &gate.Response{Bare: true, Data: map[string]any{"help": text, "see_also": []string{}}}
}
