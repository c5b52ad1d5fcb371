// Package heartbeat tells the keepwell that guards this program that it works.
//
// A beat says that the program's work goes on, so it belongs into the loop that does the work. The bytes are those of
// docs/heartbeat-protocol.md in keepwell's repository.
package heartbeat

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

const (
	header     = 11
	maxPayload = 64 << 10

	// answer is set in the command of an answer.
	answer = 0x80
	// refused is the command of the answer to what cannot be taken.
	refused = 0xFF

	cmdHeartbeat     = 0x01
	cmdStatus        = 0x02
	cmdHello         = 0x10
	cmdReady         = 0x11
	cmdStopping      = 0x12
	cmdExtendTimeout = 0x13
)

// FrameError says that bytes are no frame. Code is "magic", "length" or "checksum".
type FrameError struct {
	Code string
	text string
}

func (e *FrameError) Error() string { return e.text }

type frame struct {
	command byte
	payload []byte
}

func encode(command byte, payload []byte) ([]byte, error) {
	if len(payload) > maxPayload {
		return nil, tooLong(uint32(len(payload)))
	}
	bytes := make([]byte, header, header+len(payload))
	bytes[0], bytes[1], bytes[2] = 0x4D, 0x53, command
	binary.LittleEndian.PutUint32(bytes[3:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(bytes[7:], crc32.ChecksumIEEE(payload))
	return append(bytes, payload...), nil
}

// decode gives the first frame and its length in all; zero: there is more to come.
func decode(bytes []byte) (frame, int, error) {
	if len(bytes) >= 2 && (bytes[0] != 0x4D || bytes[1] != 0x53) {
		text := fmt.Sprintf("a frame begins with 4D 53, not with %02X %02X", bytes[0], bytes[1])
		return frame{}, 0, &FrameError{"magic", text}
	}
	if len(bytes) < 7 {
		return frame{}, 0, nil
	}
	length := binary.LittleEndian.Uint32(bytes[3:])
	if length > maxPayload {
		return frame{}, 0, tooLong(length)
	}
	end := header + int(length)
	if len(bytes) < end {
		return frame{}, 0, nil
	}
	payload := append([]byte{}, bytes[header:end]...)
	said, found := binary.LittleEndian.Uint32(bytes[7:]), crc32.ChecksumIEEE(payload)
	if said != found {
		text := fmt.Sprintf("the payload's CRC-32 is %08X, and the frame says %08X", found, said)
		return frame{}, 0, &FrameError{"checksum", text}
	}
	return frame{bytes[2], payload}, end, nil
}

func tooLong(length uint32) error {
	return &FrameError{"length", fmt.Sprintf("a payload has at most 65536 bytes, not %d", length)}
}
