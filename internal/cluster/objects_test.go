package cluster

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	meta1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"
)

// cluster is the server as its user sees it.
type cluster struct {
	config   *rest.Config
	kinds    *discovery.DiscoveryClient
	mapper   *restmapper.DeferredDiscoveryRESTMapper
	objects  dynamic.Interface
	warnings warnings
}

// connect makes a cluster of a server.
func connect(config *rest.Config) (*cluster, error) {
	c := &cluster{config: config}
	config.WarningHandler = &c.warnings
	var err error
	if c.kinds, err = discovery.NewDiscoveryClientForConfig(config); err != nil {
		return nil, err
	}
	if c.objects, err = dynamic.NewForConfig(config); err != nil {
		return nil, err
	}
	c.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.kinds))
	return c, c.define(context.Background())
}

// warnings are what the server says beside its answers.
type warnings struct {
	mu   sync.Mutex
	said []string
}

// HandleWarningHeader implements rest.WarningHandler.
func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, text)
}

// none fails the test for each warning since the last call.
func (w *warnings) none(t *testing.T, what string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, text := range w.said {
		t.Errorf("%s: the server warns: %s", what, text)
	}
	w.said = nil
}

// object is one with the text that it was read from.
type object struct {
	*unstructured.Unstructured
	text []byte
}

func (o object) String() string { return o.GetKind() + " " + o.GetName() }

// read returns the objects of a YAML file.
func read(raw []byte) (all []object, err error) {
	for r := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(raw))); ; {
		text, err := r.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		o := object{new(unstructured.Unstructured), text}
		if err := yaml.Unmarshal(text, &o.Object); err != nil {
			return nil, err
		}
		if len(o.Object) > 0 { // a comment alone is none
			all = append(all, o)
		}
	}
}

// of is where objects of this one's kind and namespace are.
func (c *cluster) of(o *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	kind := o.GroupVersionKind()
	m, err := c.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, err
	}
	if m.Scope.Name() == meta.RESTScopeNameRoot {
		return c.objects.Resource(m.Resource), nil
	}
	if o.GetNamespace() == "" {
		return nil, fmt.Errorf("%s %s names no namespace", o.GetKind(), o.GetName())
	}
	return c.objects.Resource(m.Resource).Namespace(o.GetNamespace()), nil
}

// dry has the server judge without doing anything.
var dry = []string{meta1.DryRunAll}

// apply does what kubectl apply --server-side --validate=strict --force-conflicts does.
func (c *cluster) apply(ctx context.Context, o object, dryRun []string) (*unstructured.Unstructured, error) {
	resource, err := c.of(o.Unstructured)
	if err != nil {
		return nil, err
	}
	force := true
	return resource.Patch(ctx, o.GetName(), types.ApplyPatchType, o.text,
		meta1.PatchOptions{FieldManager: "check", Force: &force, FieldValidation: meta1.FieldValidationStrict, DryRun: dryRun})
}

// create does what kubectl create --validate=strict does.
func (c *cluster) create(ctx context.Context, o *unstructured.Unstructured, dryRun []string) error {
	resource, err := c.of(o)
	if err != nil {
		return err
	}
	_, err = resource.Create(ctx, o, meta1.CreateOptions{FieldValidation: meta1.FieldValidationStrict, DryRun: dryRun})
	return err
}

// remove deletes an object for good: nobody is here to do what its finalizers wait for.
func (c *cluster) remove(ctx context.Context, o *unstructured.Unstructured) error {
	resource, err := c.of(o)
	if err != nil {
		return err
	}
	if len(o.GetFinalizers()) > 0 {
		if _, err := resource.Patch(ctx, o.GetName(), types.MergePatchType, []byte(`{"metadata": {"finalizers": null}}`), meta1.PatchOptions{}); err != nil {
			return err
		}
	}
	return resource.Delete(ctx, o.GetName(), meta1.DeleteOptions{GracePeriodSeconds: new(int64)})
}

// namespace makes a namespace whose pods are judged by the strictest of the Pod Security
// Standards, with the account that Kubernetes' controllers make. It may be there already.
func (c *cluster) namespace(ctx context.Context, name string) error {
	objects, err := read(fmt.Appendf(nil, `
{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: {pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/warn: restricted}}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: %[1]s}}
`, name))
	for _, o := range objects {
		if err == nil {
			_, err = c.apply(ctx, o, nil)
		}
	}
	return err
}

// run creates the first pod that a controller would make of an object, and takes it away; the
// claims that it would have are judged only. It says whether there is a pod.
func (c *cluster) run(ctx context.Context, o *unstructured.Unstructured) (bool, error) {
	template, found, _ := unstructured.NestedMap(o.Object, "spec", "template")
	if _, isPod, _ := unstructured.NestedSlice(template, "spec", "containers"); !found || !isPod {
		return false, nil
	}
	pod := &unstructured.Unstructured{Object: template}
	pod.SetAPIVersion("v1")
	pod.SetKind("Pod")
	pod.SetNamespace(o.GetNamespace())
	pod.SetName(o.GetName() + "-0")
	claims, _, _ := unstructured.NestedSlice(o.Object, "spec", "volumeClaimTemplates")
	for _, template := range claims {
		claim := &unstructured.Unstructured{Object: template.(map[string]any)}
		name := claim.GetName()
		claim.SetAPIVersion("v1")
		claim.SetKind("PersistentVolumeClaim")
		claim.SetNamespace(o.GetNamespace())
		claim.SetName(name + "-" + pod.GetName())
		if err := c.create(ctx, claim, dry); err != nil {
			return true, err
		}
		volumes, _, _ := unstructured.NestedSlice(pod.Object, "spec", "volumes")
		volumes = append(volumes, map[string]any{"name": name, "persistentVolumeClaim": map[string]any{"claimName": claim.GetName()}})
		if err := unstructured.SetNestedSlice(pod.Object, volumes, "spec", "volumes"); err != nil {
			return true, err
		}
	}
	if err := c.create(ctx, pod, nil); err != nil {
		return true, err
	}
	return true, c.remove(ctx, pod)
}

// left is what is in a namespace, but for what every namespace has.
func (c *cluster) left(ctx context.Context, namespace string) (left []string, err error) {
	lists, err := c.kinds.ServerPreferredNamespacedResources()
	if err != nil {
		return nil, err
	}
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") || r.Name == "events" || r.Name == "endpoints" { // to ask for the latter is warned of
				continue
			}
			found, err := c.objects.Resource(version.WithResource(r.Name)).Namespace(namespace).List(ctx, meta1.ListOptions{})
			if err != nil {
				return nil, err
			}
			for _, o := range found.Items {
				if r.Kind != "ServiceAccount" || o.GetName() != "default" {
					left = append(left, object{Unstructured: &o}.String())
				}
			}
		}
	}
	slices.Sort(left)
	return left, nil
}
