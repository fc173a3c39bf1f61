package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// oldest is the oldest Envoy with all that the rendered configuration needs: minor version of 1.
const oldest = 37

// StatsFilter is the filter for /stats?format=json that has what [Stats] reads.
const StatsFilter = `ext_proc\..*(failure_mode_allowed|message_timeouts|spurious_msgs_received)$`

// Version examines Envoy's answer to /server_info. The error says that it is none.
func Version(answer []byte) ([]Finding, error) {
	var info struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(answer, &info); err != nil {
		return nil, fault("the answer to /server_info", err)
	}
	// commit/version/tree/type/TLS library
	parts := strings.Split(info.Version, "/")
	if len(parts) < 2 {
		return nil, errors.New("doctor: the answer to /server_info names no version")
	}
	numbers := strings.SplitN(parts[1], ".", 3)
	major, err := strconv.Atoi(numbers[0])
	if err != nil || len(numbers) < 2 {
		return nil, errors.New("doctor: the answer to /server_info names no version")
	}
	minor, err := strconv.Atoi(numbers[1])
	if err != nil {
		return nil, errors.New("doctor: the answer to /server_info names no version")
	}
	if major < 1 || major == 1 && minor < oldest {
		return []Finding{{
			"version", "Envoy", fmt.Sprintf("version 1.%d is older than 1.%d, the oldest that tokenbudget is tested with", minor, oldest), "use a newer Envoy",
		}}, nil
	}
	return nil, nil
}

// Stats examines Envoy's answer to /stats?format=json: what has gone wrong since it started. With
// failOpen, requests that passed unmetered are no finding.
func Stats(answer []byte, failOpen bool) ([]Finding, error) {
	var all struct {
		Stats []struct {
			Name  string          `json:"name"`
			Value json.RawMessage `json:"value"`
		} `json:"stats"`
	}
	if err := json.Unmarshal(answer, &all); err != nil {
		return nil, fault("the answer to /stats", err)
	}
	var findings []Finding
	for _, s := range all.Stats {
		n, err := strconv.ParseUint(string(s.Value), 10, 64)
		if err != nil || n == 0 || !strings.Contains(s.Name, "ext_proc.") || len(findings) == maxFindings {
			continue
		}
		f := Finding{Where: s.Name}
		switch {
		case strings.HasSuffix(s.Name, ".failure_mode_allowed") && !failOpen:
			f.Rule, f.What, f.Fix = "passed-unmetered", fmt.Sprintf("%d requests have passed unmetered since Envoy started", n), "failure_mode_allow: false, and see why the server was away"
		case strings.HasSuffix(s.Name, ".message_timeouts"):
			f.Rule, f.What, f.Fix = "timed-out", fmt.Sprintf("the server has not decided in time %d times since Envoy started", n), "give the server more CPU, or a longer message_timeout"
		case strings.HasSuffix(s.Name, ".spurious_msgs_received"):
			f.Rule, f.What, f.Fix = "spurious", fmt.Sprintf("Envoy has refused %d messages of the server since it started", n), "compare the processing modes with the rendered ones"
		default:
			continue
		}
		findings = append(findings, f)
	}
	return findings, nil
}
