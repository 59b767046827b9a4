package testenv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// watchdog is the program that starts a server and ends it. It reads standard input, whose other end only this process
// holds: end of file means that this process is gone or wants the server gone, however that came about. A parent-death
// signal would not do: it follows the thread that forked, which the Go runtime may end at any time.
//
// It writes the server's process id and later its exit status to standard output. The line "keep" ends the server and
// leaves its directory; end of file removes the directory too. Whatever the server left behind in its process group is
// killed last, and the watchdog with it.
const watchdog = `
dir=$1 log=$2 sig=$3; shift 3
rm -f "$dir/.exited"
exec 3<&0
"$@" </dev/null >>"$log" 2>&1 3<&- &
pid=$!
trap '' PIPE
echo "$pid"
(
	word=
	read -r word <&3
	if [ ! -e "$dir/.exited" ]; then
		kill -s "$sig" "$pid" 2>/dev/null
		n=0
		while kill -0 "$pid" 2>/dev/null && [ "$n" -lt 100 ]; do sleep 0.1; n=$((n+1)); done
		kill -s KILL "$pid" 2>/dev/null
	fi
	[ "$word" != keep ]
) >/dev/null &
reader=$!
wait "$pid"
echo "$?"
: >"$dir/.exited"
wait "$reader" && rm -rf "$dir"
kill -s KILL 0
`

// stopWait is how long a server has to end by itself and its watchdog to clear up after it.
const stopWait = 20 * time.Second

// Command says what [Env.Start] starts.
type Command struct {
	Name string   // what messages call it
	Path string   // the program
	Args []string // its arguments, without the program's name
	Env  []string // its whole environment
	Dir  string   // its working directory, made by [Env.NewDir] and removed with the process
	Stop string   // the signal that ends it in order, by name; TERM if empty

	Credential *syscall.Credential // whom it runs as; nil for the same user
}

// A Process is a running server. It ends at the latest when the process that started it ends. Its methods may be called
// concurrently.
type Process struct {
	env     *Env
	command Command
	logPath string
	pid     int
	started time.Time
	exited  chan struct{} // closed when the server is gone; code may be read then
	code    int
	gone    chan struct{} // closed when the watchdog is gone too

	closeOnce sync.Once
	stdin     io.WriteCloser
}

// NewDir makes a directory for a server, which the given user may use; nil is this process's own user.
func (e *Env) NewDir(name string, who *syscall.Credential) (string, error) {
	dir, err := os.MkdirTemp(tempFor(who), "bailiff-"+name+"-")
	if err != nil {
		return "", fmt.Errorf("make a directory for %s: %w", name, err)
	}
	if who == nil {
		return dir, nil
	}
	if err := os.Chown(dir, int(who.Uid), int(who.Gid)); err != nil {
		return "", fmt.Errorf("give %s to user %d: %w", dir, who.Uid, err)
	}
	return dir, nil
}

// Start starts a command and returns once it is running, which need not mean that it is ready.
func (e *Env) Start(c Command) (*Process, error) {
	if c.Stop == "" {
		c.Stop = "TERM"
	}
	p := &Process{
		env: e, command: c, logPath: filepath.Join(c.Dir, "log"), started: time.Now(),
		exited: make(chan struct{}), gone: make(chan struct{}),
	}
	args := append([]string{"-c", watchdog, "watchdog", c.Dir, p.logPath, c.Stop, c.Path}, c.Args...)
	cmd := exec.CommandContext(context.Background(), "/bin/sh", args...) // ended by its standard input
	cmd.Dir = c.Dir
	cmd.Env = c.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: c.Credential}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	p.stdin = stdin
	if err := e.add(p); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		e.remove(p)
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	lines := bufio.NewScanner(stdout)
	p.pid, err = readInt(lines)
	go p.follow(cmd, lines)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", c.Name, err), p.Close())
	}
	return p, nil
}

// follow waits for the server's exit status and then for the watchdog's end.
func (p *Process) follow(cmd *exec.Cmd, lines *bufio.Scanner) {
	code, err := readInt(lines)
	if err != nil {
		code = -1
	}
	p.code = code
	close(p.exited)
	for lines.Scan() { // until the watchdog closes its end
	}
	_ = cmd.Wait() // it ends by its own SIGKILL
	p.env.remove(p)
	close(p.gone)
}

func readInt(lines *bufio.Scanner) (int, error) {
	if !lines.Scan() {
		return 0, errors.Join(errors.New("its watchdog ended"), lines.Err())
	}
	return strconv.Atoi(strings.TrimSpace(lines.Text()))
}

// Pid is the server's process id.
func (p *Process) Pid() int { return p.pid }

// Dir is the server's own directory.
func (p *Process) Dir() string { return p.command.Dir }

// Exited is closed when the server is gone.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// ExitCode is the status that the server ended with, 128 and the signal's number if it was killed. It waits for that.
func (p *Process) ExitCode() int {
	<-p.exited
	return p.code
}

// Signal sends a signal to the server.
func (p *Process) Signal(sig syscall.Signal) error {
	select {
	case <-p.exited:
		return os.ErrProcessDone
	default:
		return syscall.Kill(p.pid, sig)
	}
}

// Kill ends the server with SIGKILL and waits until it is gone. Its directory stays until Close.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill %s: %w", p.command.Name, err)
	}
	<-p.exited
	return nil
}

// Stop ends the server in order and leaves its directory, so that another process may be started in it.
func (p *Process) Stop() error {
	return p.end(func() {
		_, _ = io.WriteString(p.stdin, "keep\n") // if the watchdog is gone, so is the server
		_ = p.stdin.Close()
	})
}

// Close ends the server in order and removes its directory. It is all right to close a process that has ended.
func (p *Process) Close() error {
	return p.end(func() { _ = p.stdin.Close() })
}

func (p *Process) end(tell func()) error {
	p.closeOnce.Do(tell)
	timer := time.NewTimer(stopWait)
	defer timer.Stop()
	select {
	case <-p.gone:
		return nil
	case <-timer.C:
		return fmt.Errorf("stop %s: process %d did not end within %s", p.command.Name, p.pid, stopWait)
	}
}

// Log is everything that the server has written so far.
func (p *Process) Log() string {
	b, err := os.ReadFile(p.logPath)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// LogTail is the last n lines of what the server has written.
func (p *Process) LogTail(n int) string {
	lines := strings.Split(strings.TrimRight(p.Log(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// WaitReady calls probe until it returns nil. It gives up when ctx ends or the server exits, and says what the server
// wrote last.
func (p *Process) WaitReady(ctx context.Context, probe func(context.Context) error) error {
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		err := probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.exited:
			return p.startError(fmt.Errorf("exited with status %d", p.code))
		case <-ctx.Done():
			return p.startError(fmt.Errorf("%w; last: %w", context.Cause(ctx), err))
		}
	}
}

func (p *Process) startError(err error) error {
	tail := p.LogTail(20)
	if strings.Contains(tail, "address already in use") || strings.Contains(tail, "Address already in use") {
		err = errPortTaken
	}
	return fmt.Errorf("start %s: %w\n%s", p.command.Name, err, tail)
}
