package examples

import (
	"path/filepath"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	k8syaml "sigs.k8s.io/yaml"
)

// TestRestricted: each Deployment says all that the Pod Security Standard "restricted" asks of
// containers, those that Istio fills in included. Whether its pods may run then, only a server
// can say, which make cluster-check asks.
func TestRestricted(t *testing.T) {
	files, err := filepath.Glob("*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range files {
		for document := range documents(t, file) {
			var d appsv1.Deployment
			if k8syaml.Unmarshal([]byte(document), &d) != nil || d.Kind != "Deployment" { // of another kind
				continue
			}
			found++
			for _, lacks := range unrestricted(&d.Spec.Template.Spec) {
				t.Errorf("%s: %s", file, lacks)
			}
		}
	}
	if found != 4 {
		t.Errorf("there are %d Deployments, want 4", found)
	}
}

// unrestricted says what the containers of a pod may do that they need not.
func unrestricted(pod *corev1.PodSpec) (all []string) {
	of := pod.SecurityContext
	if of == nil {
		of = &corev1.PodSecurityContext{}
	}
	for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
		c := container.SecurityContext
		if c == nil {
			c = &corev1.SecurityContext{}
		}
		is := func(b *bool, want bool) bool { return b != nil && *b == want }
		for lacks, ok := range map[string]bool{
			"allowPrivilegeEscalation: false": is(c.AllowPrivilegeEscalation, false),
			"capabilities: {drop: [ALL]}":     c.Capabilities != nil && slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}) && c.Capabilities.Add == nil,
			"runAsNonRoot: true":              is(c.RunAsNonRoot, true) || c.RunAsNonRoot == nil && is(of.RunAsNonRoot, true),
			"seccompProfile":                  c.SeccompProfile != nil || of.SeccompProfile != nil,
		} {
			if !ok {
				all = append(all, "the container "+container.Name+" lacks "+lacks)
			}
		}
	}
	return all
}
