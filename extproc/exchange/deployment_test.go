package exchange

import (
	"testing"

	"github.com/cockroachdb/datadriven"
)

// The record has the model that the client named; without one, the deployment. How both
// are counted is in the conversation azure_deployment.
func TestDeploymentInRecord(t *testing.T) {
	for body, want := range map[string]string{
		`{"model":"gpt-4o","messages":[]}`: "gpt-4o",
		`{"messages":[]}`:                  "eu-chat",
	} {
		c := newConversation()
		for _, d := range []*datadriven.TestData{
			{Cmd: "limits", Input: "minute tokens=1"},
			{Cmd: "request", CmdArgs: []datadriven.CmdArg{{Key: "path", Vals: []string{"/openai/deployments/eu-chat/chat/completions"}}}},
			{Cmd: "body", Input: body},
		} {
			c.do(t, d, wholly)
		}
		if c.record == nil || c.record.Model != want {
			t.Errorf("%s: the record is %+v, want the model %s", body, c.record, want)
		}
	}
}
