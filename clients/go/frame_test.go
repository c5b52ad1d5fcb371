package heartbeat

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"testing"
)

type vectors struct {
	Frames []struct {
		Name, Payload, Frame string
		Command              byte
	}
	Broken []struct{ Name, Bytes, Error string }
	Reports []struct {
		Name   string
		Report json.RawMessage
	}
}

func read(t *testing.T) (v vectors) {
	t.Helper()
	text, err := os.ReadFile("../../docs/heartbeat-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Frames) < 10 || len(v.Broken) < 10 || len(v.Reports) < 10 {
		t.Fatal("vectors are missing")
	}
	return v
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestTheVectorsOfFramesHoldInBothDirections(t *testing.T) {
	for _, v := range read(t).Frames {
		payload, whole := unhex(t, v.Payload), unhex(t, v.Frame)
		encoded, err := encode(v.Command, payload)
		if err != nil || !bytes.Equal(encoded, whole) {
			t.Errorf("%s: encoded %x, %v", v.Name, encoded, err)
		}
		decoded, length, err := decode(append(whole, "more"...))
		if err != nil || length != len(whole) || decoded.command != v.Command || !bytes.Equal(decoded.payload, payload) {
			t.Errorf("%s: decoded %v, %d, %v", v.Name, decoded, length, err)
		}
		for cut := range whole {
			if _, length, err := decode(whole[:cut]); length != 0 || err != nil {
				t.Errorf("%s: cut at %d: %d, %v", v.Name, cut, length, err)
			}
		}
	}
}

func TestTheVectorsOfBrokenFramesAreToldApart(t *testing.T) {
	for _, v := range read(t).Broken {
		_, length, err := decode(unhex(t, v.Bytes))
		var wrong *FrameError
		switch {
		case v.Error == "incomplete" && length == 0 && err == nil:
		case errors.As(err, &wrong) && wrong.Code == v.Error:
		default:
			t.Errorf("%s: %d, %v instead of %s", v.Name, length, err, v.Error)
		}
	}
}

func TestTheVectorsOfReportsAreWhatTheClientSends(t *testing.T) {
	tried := 0
	for _, v := range read(t).Reports {
		// Only those that a client sends have a sequence.
		if !bytes.Contains(v.Report, []byte(`"seq"`)) {
			continue
		}
		tried++
		var sent report
		if err := json.Unmarshal(v.Report, &sent); err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		again, err := json.Marshal(sent)
		if err != nil {
			t.Fatal(err)
		}
		var meant, means map[string]any
		if json.Unmarshal(v.Report, &meant) != nil || json.Unmarshal(again, &means) != nil || !reflect.DeepEqual(meant, means) {
			t.Errorf("%s: %s instead of %s", v.Name, again, v.Report)
		}
	}
	if tried < 2 {
		t.Errorf("only %d were tried", tried)
	}
}

func TestAPayloadThatIsTooLongIsNotSent(t *testing.T) {
	if _, err := encode(1, make([]byte, maxPayload)); err != nil {
		t.Error(err)
	}
	if _, err := encode(1, make([]byte, maxPayload+1)); err == nil {
		t.Error("it was taken")
	}
}
