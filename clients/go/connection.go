package heartbeat

import (
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// kindOf tells "pipe", "socket" or "tcp".
func kindOf(endpoint string) string {
	if strings.HasPrefix(endpoint, `\\.\pipe\`) {
		return "pipe"
	}
	colon := strings.LastIndexByte(endpoint, ':')
	if colon < 0 || strings.ContainsAny(endpoint, `/\`) {
		return "socket"
	}
	if _, err := strconv.ParseUint(endpoint[colon+1:], 10, 16); err != nil {
		return "socket"
	}
	return "tcp"
}

// connection has one exchange under way at a time.
type connection struct {
	stream io.ReadWriteCloser
	// socket knows deadlines; a pipe, which does not, is nil here.
	socket net.Conn
	held   []byte
}

func open(kind, endpoint string, timeout time.Duration) (*connection, error) {
	if kind == "pipe" {
		pipe, err := os.OpenFile(endpoint, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		return &connection{stream: pipe}, nil
	}
	network := "tcp"
	if kind == "socket" {
		network = "unix"
	}
	socket, err := net.DialTimeout(network, endpoint, timeout)
	if err != nil {
		return nil, err
	}
	return &connection{stream: socket, socket: socket}, nil
}

// exchange sends a frame and waits for what is answered. After an error the connection is of no more use.
func (c *connection) exchange(bytes []byte, timeout time.Duration) (frame, error) {
	if c.socket != nil {
		if err := c.socket.SetDeadline(time.Now().Add(timeout)); err != nil {
			return frame{}, err
		}
		return c.converse(bytes)
	}
	type result struct {
		frame frame
		err   error
	}
	// A pipe's goroutine that is given up ends when keepwell closes its side, or answers.
	done := make(chan result, 1)
	go func() {
		reply, err := c.converse(bytes)
		done <- result{reply, err}
	}()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.frame, r.err
	case <-timer.C:
		return frame{}, errNoAnswer
	}
}

func (c *connection) converse(bytes []byte) (frame, error) {
	if _, err := c.stream.Write(bytes); err != nil {
		return frame{}, err
	}
	piece := make([]byte, 4096)
	for {
		reply, length, err := decode(c.held)
		if err != nil {
			return frame{}, err
		}
		if length > 0 {
			c.held = c.held[length:]
			return reply, nil
		}
		n, err := c.stream.Read(piece)
		c.held = append(c.held, piece[:n]...)
		if err != nil && n == 0 {
			return frame{}, err
		}
	}
}

func (c *connection) close() {
	if c.socket != nil {
		c.socket.Close()
		return
	}
	// Closing a pipe waits for a read that is under way.
	go c.stream.Close()
}
