package heartbeat

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// A call waits no longer than twice this: once for a connection that has died, once for a new one.
	defaultTimeout = time.Second
	// Reports that wait at most.
	defaultReports = 64
	// Between two attempts to connect the pause doubles from the first to the second.
	firstPause, longestPause = 100 * time.Millisecond, 5 * time.Second
)

// RefusedError says that keepwell said no. Its text begins with a word of the protocol, such as "token: ". What was refused
// is not said again.
type RefusedError struct{ Text string }

func (e *RefusedError) Error() string { return "keepwell refused it: " + e.Text }

// Client is the way to the guardian of this program. It connects at its first use and again whenever it must. A nil client
// says nothing, and all its calls return false.
type Client struct {
	endpoint, token, name string
	timeout               time.Duration
	reports               int

	lock       sync.Mutex
	connection *connection
	waiting    []waiting
	forgotten  uint64
	pause      time.Duration
	next       time.Time
	seq        uint64
}

type waiting struct {
	command byte
	bytes   []byte
}

var clients uint64

// FromEnv gives the client for what KEEPWELL_HEARTBEAT and KEEPWELL_TOKEN say; nil: nobody waits for beats.
func FromEnv() *Client {
	endpoint := os.Getenv("KEEPWELL_HEARTBEAT")
	if endpoint == "" {
		return nil
	}
	return New(endpoint, os.Getenv("KEEPWELL_TOKEN"))
}

// New gives a client for this endpoint. The token is needed over TCP only.
func New(endpoint, token string) *Client {
	// No two clients of one service have the same name, nor does one get it whose process has the pid later.
	number := atomic.AddUint64(&clients, 1) - 1
	name := fmt.Sprintf("%d-%d-%x", os.Getpid(), number, time.Now().UnixMicro())
	return &Client{endpoint: endpoint, token: token, name: name, timeout: defaultTimeout, reports: defaultReports}
}

// Beat says that the program works.
func (c *Client) Beat() (bool, error) {
	if c == nil {
		return false, nil
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	if delivered, err := c.flush(); !delivered {
		return false, err
	}
	bytes, err := encode(cmdHeartbeat, nil)
	if err != nil {
		return false, err
	}
	reply, ok := c.attempt(bytes)
	if !ok {
		return false, nil
	}
	return judge(reply)
}

// Ready says that the program is ready.
func (c *Client) Ready() (bool, error) { return c.say(cmdReady, nil) }

// Stopping says that the program is on its way down.
func (c *Client) Stopping() (bool, error) { return c.say(cmdStopping, nil) }

// ExtendTimeout says that the program needs so much longer, from now on, to become ready or to stop.
func (c *Client) ExtendTimeout(by time.Duration) (bool, error) {
	millis := by.Milliseconds()
	if millis < 0 {
		millis = 0
	}
	if millis > math.MaxUint32 {
		millis = math.MaxUint32
	}
	payload := make([]byte, 4)
	binary.LittleEndian.PutUint32(payload, uint32(millis))
	return c.say(cmdExtendTimeout, payload)
}

type report struct {
	From    string             `json:"from"`
	Seq     uint64             `json:"seq"`
	Status  *string            `json:"status,omitempty"`
	Metrics map[string]float64 `json:"metrics,omitempty"`
}

// Report gives a line for operators, and numbers of the program's own by name. An empty line takes back what was said.
func (c *Client) Report(status string, metrics map[string]float64) (bool, error) {
	return c.report(&status, metrics)
}

// ReportMetrics gives numbers only.
func (c *Client) ReportMetrics(metrics map[string]float64) (bool, error) {
	return c.report(nil, metrics)
}

// Flush sends what waits.
func (c *Client) Flush() (bool, error) {
	if c == nil {
		return false, nil
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.flush()
}

// Waiting tells how much waits.
func (c *Client) Waiting() int {
	if c == nil {
		return 0
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	return len(c.waiting)
}

// Forgotten tells how many reports were forgotten because too many waited.
func (c *Client) Forgotten() uint64 {
	if c == nil {
		return 0
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.forgotten
}

// Close ends the connection; a later call opens it again.
func (c *Client) Close() {
	if c == nil {
		return
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	c.disconnect()
}

func (c *Client) report(status *string, metrics map[string]float64) (bool, error) {
	if c == nil {
		return false, nil
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	payload, err := json.Marshal(report{c.name, c.seq + 1, status, metrics})
	if err != nil {
		return false, err
	}
	bytes, err := encode(cmdStatus, payload)
	if err != nil {
		return false, err
	}
	c.seq++
	c.keep(cmdStatus, bytes)
	return c.flush()
}

func (c *Client) say(command byte, payload []byte) (bool, error) {
	if c == nil {
		return false, nil
	}
	bytes, err := encode(command, payload)
	if err != nil {
		return false, err
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	c.keep(command, bytes)
	return c.flush()
}

// keep holds reports in order up to the bound. Of the other commands the last one says all.
func (c *Client) keep(command byte, bytes []byte) {
	reports := 0
	for _, kept := range c.waiting {
		if kept.command == cmdStatus {
			reports++
		}
	}
	for i, kept := range c.waiting {
		if kept.command != command {
			continue
		}
		if command == cmdStatus {
			if reports < c.reports {
				break
			}
			c.forgotten++
		}
		c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
		break
	}
	c.waiting = append(c.waiting, waiting{command, bytes})
}

func (c *Client) flush() (bool, error) {
	for len(c.waiting) > 0 {
		reply, ok := c.attempt(c.waiting[0].bytes)
		if !ok {
			return false, nil
		}
		c.waiting = c.waiting[1:]
		if _, err := judge(reply); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (c *Client) attempt(bytes []byte) (frame, bool) {
	if c.connection != nil {
		if reply, err := c.connection.exchange(bytes, c.timeout); err == nil {
			return c.answered(reply), true
		}
		// It was good before: keepwell has replaced its daemon, and the next one listens already.
		c.disconnect()
	}
	if time.Now().Before(c.next) {
		return frame{}, false
	}
	reply, err := c.connectAndSend(bytes)
	if err != nil {
		c.disconnect()
		c.pause *= 2
		if c.pause < firstPause {
			c.pause = firstPause
		}
		if c.pause > longestPause {
			c.pause = longestPause
		}
		c.next = time.Now().Add(c.pause)
		return frame{}, false
	}
	c.pause, c.next = 0, time.Time{}
	return c.answered(reply), true
}

func (c *Client) connectAndSend(bytes []byte) (frame, error) {
	kind := kindOf(c.endpoint)
	connection, err := open(kind, c.endpoint, c.timeout)
	if err != nil {
		return frame{}, err
	}
	c.connection = connection
	if kind == "tcp" && c.token != "" {
		hello, err := encode(cmdHello, []byte(c.token))
		if err != nil {
			return frame{}, err
		}
		reply, err := connection.exchange(hello, c.timeout)
		if err != nil || reply.command == refused {
			return reply, err
		}
	}
	return connection.exchange(bytes, c.timeout)
}

func (c *Client) answered(reply frame) frame {
	// keepwell closes after most of its refusals, and a new connection is cheap after the others.
	if reply.command == refused {
		c.disconnect()
	}
	return reply
}

func (c *Client) disconnect() {
	if c.connection != nil {
		c.connection.close()
		c.connection = nil
	}
}

func judge(reply frame) (bool, error) {
	if reply.command == refused {
		return false, &RefusedError{string(reply.payload)}
	}
	if reply.command&answer == 0 {
		return false, &RefusedError{fmt.Sprintf("the answer %02X is none", reply.command)}
	}
	return true, nil
}

var errNoAnswer = errors.New("no answer in time")
