// The official Go SDK, driven from pytest: one JSON object a line in, one a line out; see tests/support/driver.py.
//
// Payloads are JSON values in both formats; with Protobuf, whose payloads are bytes, they cross the wire as JSON text.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync"

	"github.com/centrifugal/centrifuge-go"
)

const (
	timedOut  = 1 // the JavaScript SDK's numbers for errors that have none here
	closed    = 11
	lineLimit = 4 * 1024 * 1024
)

type object = map[string]any

// A request holds the fields of every operation.
type request struct {
	Call    int
	Op      string
	Client  string
	URL     string
	Format  string
	Token   string
	Tokens  []*string // what the application answers when it is asked for a token; nil: it cannot be asked
	Channel string
	Tags    map[string]string // a filter: all of them
	Delta   bool
	Quiet   bool
	Method  string
	Data    json.RawMessage
	Options object // none so far
}

var (
	clients sync.Map // name -> *client
	writing sync.Mutex
)

func write(message object) {
	line, err := json.Marshal(message)
	if err != nil {
		panic(err)
	}
	writing.Lock()
	defer writing.Unlock()
	_, _ = os.Stdout.Write(append(line, '\n')) // with the reader gone the input ends, too
}

func plainError(err error) object {
	var refused *centrifuge.Error
	switch {
	case errors.As(err, &refused):
		return object{"code": refused.Code, "message": refused.Message, "temporary": refused.Temporary}
	case errors.Is(err, centrifuge.ErrTimeout):
		return object{"code": timedOut, "message": err.Error()}
	case errors.Is(err, centrifuge.ErrClientDisconnected):
		return object{"code": closed, "message": err.Error()}
	}
	return object{"code": 0, "message": err.Error()}
}

func operate(r request) (json.RawMessage, error) {
	if len(r.Options) > 0 {
		return nil, errors.New("this driver knows no options")
	}
	if r.Op == "create" {
		clients.Store(r.Client, newClient(r))
		return nil, nil
	}
	found, ok := clients.Load(r.Client)
	if !ok {
		return nil, errors.New("no such client: " + r.Client)
	}
	return found.(*client).operate(context.Background(), r)
}

func perform(r request) {
	result, err := operate(r)
	if err != nil {
		write(object{"call": r.Call, "error": plainError(err)})
		return
	}
	write(object{"call": r.Call, "result": result})
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, lineLimit)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			panic(err)
		}
		go perform(r) // calls may wait for one another
	}
}
