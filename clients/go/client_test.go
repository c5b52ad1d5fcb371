package heartbeat

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"time"
)

const patience = 30 * time.Second

// guardian answers as keepwell does and remembers what came. judge gives the command of the answer, or zero to hang up.
type guardian struct {
	lock  sync.Mutex
	heard []frame
	judge func(command byte) byte
}

func yes(command byte) byte { return answer | command }

func serve(listener net.Listener, judge func(byte) byte) *guardian {
	g := &guardian{judge: judge}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			g.converse(connection)
			connection.Close()
		}
	}()
	return g
}

func (g *guardian) converse(connection net.Conn) {
	var held []byte
	piece := make([]byte, 64)
	for {
		heard, length, err := decode(held)
		if err != nil {
			return
		}
		if length == 0 {
			n, err := connection.Read(piece)
			if err != nil {
				return
			}
			held = append(held, piece[:n]...)
			continue
		}
		held = held[length:]
		g.lock.Lock()
		g.heard = append(g.heard, heard)
		g.lock.Unlock()
		command := g.judge(heard.command)
		if command == 0 {
			return
		}
		reply, err := encode(command, heard.payload)
		if err != nil {
			return
		}
		if _, err := connection.Write(reply); err != nil {
			return
		}
	}
}

func (g *guardian) frames() []frame {
	g.lock.Lock()
	defer g.lock.Unlock()
	return append([]frame{}, g.heard...)
}

func (g *guardian) commands() (all []byte) {
	for _, heard := range g.frames() {
		all = append(all, heard.command)
	}
	return all
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

func client(t *testing.T, endpoint, token string) *Client {
	t.Helper()
	c := New(endpoint, token)
	c.timeout = patience
	t.Cleanup(c.Close)
	return c
}

func delivered(t *testing.T, ok bool, err error) {
	t.Helper()
	if !ok || err != nil {
		t.Fatalf("delivered: %v, %v", ok, err)
	}
}

func queued(t *testing.T, ok bool, err error) {
	t.Helper()
	if ok || err != nil {
		t.Fatalf("queued: %v, %v", ok, err)
	}
}

func TestWhatAProgramSaysArrivesAsTheFramesOfTheProtocol(t *testing.T) {
	listener := listen(t, "tcp", "127.0.0.1:0")
	g := serve(listener, yes)
	c := client(t, listener.Addr().String(), "secret")
	ok, err := c.Beat()
	delivered(t, ok, err)
	ok, err = c.Ready()
	delivered(t, ok, err)
	ok, err = c.ExtendTimeout(90 * time.Second)
	delivered(t, ok, err)
	ok, err = c.Report("serving", map[string]float64{"queue.length": 3})
	delivered(t, ok, err)
	ok, err = c.Stopping()
	delivered(t, ok, err)
	expected := []byte{cmdHello, cmdHeartbeat, cmdReady, cmdExtendTimeout, cmdStatus, cmdStopping}
	if !bytes.Equal(g.commands(), expected) {
		t.Fatalf("%x", g.commands())
	}
	heard := g.frames()
	if string(heard[0].payload) != "secret" || !bytes.Equal(heard[3].payload, []byte{0x90, 0x5F, 0x01, 0x00}) {
		t.Errorf("%v", heard)
	}
	var said report
	if err := json.Unmarshal(heard[4].payload, &said); err != nil || *said.Status != "serving" || said.Seq != 1 {
		t.Errorf("%s, %v", heard[4].payload, err)
	}
}

func TestASocketNeedsNoHandshake(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("pipes are used there")
	}
	path := filepath.Join(t.TempDir(), "beat")
	g := serve(listen(t, "unix", path), yes)
	t.Setenv("KEEPWELL_HEARTBEAT", path)
	t.Setenv("KEEPWELL_TOKEN", "secret")
	c := FromEnv()
	c.timeout = patience
	defer c.Close()
	ok, err := c.Beat()
	delivered(t, ok, err)
	if !bytes.Equal(g.commands(), []byte{cmdHeartbeat}) {
		t.Errorf("%x", g.commands())
	}
}

func TestWhatWasSaidWhileNobodyListenedComesLaterOnceAndInOrder(t *testing.T) {
	listener := listen(t, "tcp", "127.0.0.1:0")
	c := client(t, listener.Addr().String(), "")
	c.timeout, c.reports = 20*time.Millisecond, 3
	ok, err := c.Beat()
	queued(t, ok, err)
	for _, text := range []string{"1", "2", "3", "4", "5"} {
		ok, err = c.Report(text, nil)
		queued(t, ok, err)
	}
	if c.Waiting() != 3 || c.Forgotten() != 2 {
		t.Fatalf("%d wait, %d are forgotten", c.Waiting(), c.Forgotten())
	}
	g := serve(listener, yes)
	c.timeout = patience
	for begin := time.Now(); ; {
		if ok, err = c.Flush(); err != nil || time.Since(begin) > patience {
			t.Fatal("it does not go", err)
		} else if ok {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	var last uint64
	var taken []string
	for _, heard := range g.frames() {
		var said report
		// As the receiver does it.
		if heard.command == cmdStatus && json.Unmarshal(heard.payload, &said) == nil && said.Seq > last {
			last = said.Seq
			taken = append(taken, *said.Status)
		}
	}
	if len(taken) < 3 || !reflect.DeepEqual(taken[len(taken)-3:], []string{"3", "4", "5"}) {
		t.Errorf("%q", taken)
	}
}

func TestAReportWhoseAnswerWasLostIsSentAgainWithItsNumber(t *testing.T) {
	listener := listen(t, "tcp", "127.0.0.1:0")
	lost := false
	g := serve(listener, func(command byte) byte {
		if command == cmdStatus && !lost {
			lost = true
			return 0
		}
		return yes(command)
	})
	c := client(t, listener.Addr().String(), "")
	ok, err := c.Beat()
	delivered(t, ok, err)
	ok, err = c.Report("once", nil)
	delivered(t, ok, err)
	heard := g.frames()
	if len(heard) != 3 || !reflect.DeepEqual(heard[1], heard[2]) {
		t.Errorf("%v", heard)
	}
}

func TestWhatWasRefusedIsToldAndNotSaidAgain(t *testing.T) {
	listener := listen(t, "tcp", "127.0.0.1:0")
	g := serve(listener, func(command byte) byte {
		if command == cmdStatus {
			return refused
		}
		return yes(command)
	})
	c := client(t, listener.Addr().String(), "")
	var no *RefusedError
	if ok, err := c.Report("x", nil); ok || !errors.As(err, &no) {
		t.Fatalf("%v, %v", ok, err)
	}
	ok, err := c.Beat()
	delivered(t, ok, err)
	if !bytes.Equal(g.commands(), []byte{cmdStatus, cmdHeartbeat}) {
		t.Errorf("%x", g.commands())
	}
}

func TestWithoutAGuardianCallsReturnAndNothingIsLost(t *testing.T) {
	c := client(t, "no/such/socket", "")
	ok, err := c.Beat()
	queued(t, ok, err)
	ok, err = c.Ready()
	queued(t, ok, err)
	ok, err = c.Ready()
	queued(t, ok, err)
	if c.Waiting() != 1 {
		t.Errorf("%d wait", c.Waiting())
	}
	t.Setenv("KEEPWELL_HEARTBEAT", "")
	nobody := FromEnv()
	ok, err = nobody.Beat()
	queued(t, ok, err)
}

func TestAnEndpointIsToldByItsForm(t *testing.T) {
	for endpoint, kind := range map[string]string{
		"/run/keepwell/web.beat": "socket",
		"/run/a:80":              "socket",
		`C:\state\web.beat`:      "socket",
		"web.beat":               "socket",
		`\\.\pipe\keepwell-web`:  "pipe",
		"127.0.0.1:9751":         "tcp",
		"[::1]:9751":             "tcp",
		"localhost:99999":        "socket",
	} {
		if kindOf(endpoint) != kind {
			t.Errorf("%s is a %s", endpoint, kindOf(endpoint))
		}
	}
}
