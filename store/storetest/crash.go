package storetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/bailiff-secrets/bailiff/broker"
	"github.com/bailiff-secrets/bailiff/internal/document"
	"github.com/bailiff-secrets/bailiff/internal/object"
)

// Crash says how a store is opened by a process that will be killed.
type Crash struct {
	// Open opens the store that lives in a directory, or makes it there. It is called in a process of its own.
	Open func(place string) (Store, error)
	// Check looks at what is in the directory after a kill, before the store is opened again; it may be nil.
	Check func(t *testing.T, place string)
	// Rounds is how often the process is killed; 0: 15.
	Rounds int
}

// crashPlace is the variable of the environment that makes the test binary the process that will be killed.
const crashPlace = "BAILIFF_STORETEST_PLACE"

// RunCrash runs the test binary again as a process that writes to a store and acknowledges each write, kills it at a random
// moment, opens what it left, and checks that every acknowledged write is there and no write is there in part. It must be
// called at the top of a test function: the process runs that test alone, and ends here.
func RunCrash(t *testing.T, c Crash) {
	if place := os.Getenv(crashPlace); place != "" {
		crashChild(c, place)
	}
	place := t.TempDir()
	known := acknowledged{leases: map[string]broker.State{}}
	rounds := c.Rounds
	if rounds == 0 {
		rounds = 15
	}
	for round := range rounds {
		kill := rand.IntN(400)
		if round%5 == 0 {
			kill = rand.IntN(3) // while it opens the store
		}
		crashRound(t, place, round, kill, &known)
		if c.Check != nil {
			c.Check(t, place)
		}
		s, err := c.Open(place)
		if err != nil {
			t.Fatalf("round %d: opening what the crash left: %v", round, err)
		}
		known.check(t, s)
		closeStore(t, s)
		if t.Failed() {
			t.Fatalf("round %d, killed after %d lines", round, kill)
		}
	}
	t.Logf("%d leases and %d versions of the objects were acknowledged", len(known.leases), known.version)
	if len(known.leases) == 0 {
		t.Error("no write was acknowledged, so that nothing was tested")
	}
}

func closeStore(t *testing.T, s Store) {
	if c, ok := s.(io.Closer); ok {
		if err := c.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	}
}

// crashRound starts the process, kills it when it has written some lines, and notes all lines that it wrote.
func crashRound(t *testing.T, place string, round, kill int, known *acknowledged) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^"+t.Name()+"$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), crashPlace+"="+place, crashRoundVar+"="+strconv.Itoa(round))
	cmd.ExtraFiles = []*os.File{w}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	err = errors.Join(cmd.Start(), w.Close())
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(r)
	for n := 0; ; n++ {
		line, err := lines.ReadString('\n')
		if err != nil { // killed; a line that is cut was not acknowledged
			break
		}
		known.add(t, strings.TrimSuffix(line, "\n"))
		if n == kill {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	if err := cmd.Wait(); cmd.ProcessState.Exited() {
		t.Fatalf("the process ended by itself: %v\n%s", err, said.String())
	}
}

// acknowledged is what the process was told is durable.
type acknowledged struct {
	leases  map[string]broker.State // the last state of each
	version int64                   // of both objects
	docs    int64                   // the round of the documents
}

func (a *acknowledged) add(t *testing.T, line string) {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "opening", "opened":
	case "objects":
		v, err := strconv.ParseInt(rest, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		a.version = max(a.version, v)
	case "documents":
		n, err := strconv.ParseInt(rest, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		a.docs = max(a.docs, n)
	case "error":
		t.Errorf("the process says: %s", rest)
	default:
		a.leases[rest] = broker.State(word)
	}
}

// check compares what is there with what was acknowledged: a lease may be further than that, but not behind it.
func (a *acknowledged) check(t *testing.T, s Store) {
	order := map[broker.State]int{broker.Pending: 1, broker.Active: 2, broker.Revoked: 3}
	all, err := everything(t.Context(), s, 500)
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]broker.State{}
	for _, l := range all {
		there[l.ID] = l.State
		want := crashLease(l.ID)
		want.Seq, want.State, want.Version = l.Seq, l.State, int64(order[l.State])
		if d := diff(l, want); d != "" {
			t.Errorf("lease %s is there in part (-got +want):\n%s", l.ID, d)
		}
	}
	for id, state := range a.leases {
		if order[there[id]] < order[state] {
			t.Errorf("lease %s was acknowledged as %s and is %q", id, state, there[id])
		}
	}
	var versions []int64
	for _, name := range []string{"a", "b"} {
		o, err := s.Object(t.Context(), object.KindTarget, name)
		if err != nil && !errors.Is(err, object.ErrNotFound) {
			t.Error(err)
		}
		versions = append(versions, o.Version)
	}
	if versions[0] != versions[1] || versions[0] < a.version {
		t.Errorf("two objects that are written together have the versions %d, acknowledged is %d", versions, a.version)
	}
	if d, ok := s.(document.Store); ok {
		a.checkDocuments(t, d)
	}
}

// checkDocuments looks at the two that are written together, of which one is there after every other round.
func (a *acknowledged) checkDocuments(t *testing.T, s document.Store) {
	all, err := s.Documents(t.Context(), document.Query{Space: "crash"})
	if err != nil {
		t.Fatal(err)
	}
	round := int64(0)
	for _, d := range all {
		if d.Key == "a" {
			round = d.Version
		}
	}
	if round < a.docs {
		t.Errorf("round %d of the documents was acknowledged, %d is there", a.docs, round)
	}
	if want := round % 2; int64(len(all)) != min(round, 1)+want {
		t.Errorf("after round %d of the documents there are %q", round, keysOf(all))
	}
	found, err := s.Documents(t.Context(), document.Query{Space: "crash", By: "round", Value: strconv.FormatInt(round, 10)})
	if err != nil || len(found) != len(all) {
		t.Errorf("by their round %q are found, %v, of %q", keysOf(found), err, keysOf(all))
	}
}

// crashRoundVar tells the process which round it is, so that its leases are new.
const crashRoundVar = "BAILIFF_STORETEST_ROUND"

// crashLease is a lease as the process inserts it: all of it follows from its id.
func crashLease(id string) *broker.Lease {
	l := newLease(id)
	l.Principal, l.Data = "principal of "+id, []byte(strings.Repeat("data of "+id, 20))
	return l
}

// crashChild is the process: it writes until it is killed, or until nobody reads what it says.
func crashChild(c Crash, place string) {
	out := &acks{w: os.NewFile(3, "acks")}
	out.say("opening the store")
	s, err := c.Open(place)
	if err != nil {
		out.say("error opening: %v", err)
		os.Exit(1)
	}
	out.say("opened the store")
	var wg sync.WaitGroup
	for w := range 6 {
		prefix := fmt.Sprintf("r%s-w%d-", os.Getenv(crashRoundVar), w)
		wg.Go(func() { writeLeases(s, out, prefix) })
	}
	wg.Go(func() { writeObjects(s, out) })
	if d, ok := s.(document.Store); ok {
		wg.Go(func() { writeDocuments(d, out) })
	}
	wg.Wait()
	os.Exit(1)
}

// acks is the pipe on which writes are acknowledged.
type acks struct {
	mu sync.Mutex // guards writing to w
	w  *os.File
}

func (a *acks) say(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, err := fmt.Fprintf(a.w, format+"\n", args...); err != nil {
		os.Exit(2) // the test is gone
	}
}

func writeLeases(s Store, out *acks, prefix string) {
	ctx := context.Background()
	for n := 0; ; n++ {
		l := crashLease(prefix + strconv.Itoa(n))
		err := s.Insert(ctx, l)
		if err == nil {
			out.say("pending %s", l.ID)
			l.State = broker.Active
			err = s.Move(ctx, l, broker.Pending)
		}
		if err == nil {
			out.say("active %s", l.ID)
			if n%2 == 0 {
				continue
			}
			l.State = broker.Revoked
			err = s.Move(ctx, l, broker.Active)
		}
		if err != nil {
			out.say("error %v", err)
			return
		}
		out.say("revoked %s", l.ID)
	}
}

// writeDocuments writes two documents in one step, again and again: one gets its next version, the other comes and goes.
func writeDocuments(s document.Store, out *acks) {
	ctx := context.Background()
	d, err := s.Document(ctx, "crash", "a")
	if err != nil && !errors.Is(err, document.ErrNotFound) {
		out.say("error %v", err)
		return
	}
	a := &document.Change{Document: document.Document{Space: "crash", Key: "a", Version: d.Version}}
	b := &document.Change{Document: document.Document{Space: "crash", Key: "b", Version: d.Version % 2}}
	for {
		a.Keys = map[string]string{"round": strconv.FormatInt(a.Version+1, 10)}
		b.Keys, b.Remove = a.Keys, b.Version > 0
		if err := s.WriteDocuments(ctx, a, b); err != nil {
			out.say("error %v", err)
			return
		}
		out.say("documents %d", a.Version)
	}
}

// writeObjects writes two objects in one step, again and again, each time with the next version.
func writeObjects(s Store, out *acks) {
	ctx := context.Background()
	o, err := s.Object(ctx, object.KindTarget, "a")
	if err != nil && !errors.Is(err, object.ErrNotFound) {
		out.say("error %v", err)
		return
	}
	for v := o.Version; ; v++ {
		changes := []object.Change{
			{Record: newObject(object.KindTarget, "a"), Expect: v},
			{Record: newObject(object.KindTarget, "b"), Expect: v},
		}
		if err := s.Apply(ctx, changes); err != nil {
			out.say("error %v", err)
			return
		}
		out.say("objects %d", v+1)
	}
}
