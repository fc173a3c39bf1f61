package cluster

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	meta1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"
)

// cluster is the server as its user sees it.
type cluster struct {
	*kubernetes.Clientset
	objects    dynamic.Interface
	mapper     *restmapper.DeferredDiscoveryRESTMapper
	kubeconfig string
	warnings   *warnings
}

// connect makes a cluster of a server.
func connect(config *rest.Config, dir string) (*cluster, error) {
	c := &cluster{kubeconfig: filepath.Join(dir, "kubeconfig"), warnings: new(warnings)}
	if err := kubeconfig(config, c.kubeconfig); err != nil {
		return nil, err
	}
	config.WarningHandler = c.warnings
	var err error
	if c.Clientset, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	if c.objects, err = dynamic.NewForConfig(config); err != nil {
		return nil, err
	}
	c.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.Discovery()))
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

// documents are those of a YAML file that are not empty.
func documents(raw []byte) (all [][]byte, err error) {
	for r := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(raw))); ; {
		document, err := r.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		var o map[string]any
		if err := yaml.Unmarshal(document, &o); err != nil {
			return nil, err
		}
		if len(o) > 0 {
			all = append(all, document)
		}
	}
}

// decode reads a document.
func decode(document []byte) (*unstructured.Unstructured, error) {
	o := new(unstructured.Unstructured)
	err := yaml.Unmarshal(document, &o.Object)
	return o, err
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

// apply does what kubectl apply --server-side --validate=strict does.
func (c *cluster) apply(ctx context.Context, document []byte, how meta1.PatchOptions) (*unstructured.Unstructured, error) {
	o, err := decode(document)
	if err != nil {
		return nil, err
	}
	resource, err := c.of(o)
	if err != nil {
		return nil, err
	}
	how.FieldManager, how.FieldValidation = "check", meta1.FieldValidationStrict
	return resource.Patch(ctx, o.GetName(), types.ApplyPatchType, document, how)
}

// remove deletes an object for good. What controllers would do before is left out.
func (c *cluster) remove(ctx context.Context, o *unstructured.Unstructured) error {
	resource, err := c.of(o)
	if err != nil {
		return err
	}
	if err := resource.Delete(ctx, o.GetName(), meta1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		return err
	}
	if len(o.GetFinalizers()) > 0 || o.GetKind() == "PersistentVolumeClaim" {
		_, err = resource.Patch(ctx, o.GetName(), types.MergePatchType, []byte(`{"metadata": {"finalizers": null}}`), meta1.PatchOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
	}
	return err
}

// namespace makes a namespace whose pods are judged by the strictest of the Pod Security
// Standards, with the account that Kubernetes' controllers make.
func (c *cluster) namespace(ctx context.Context, name string) error {
	document := fmt.Appendf(nil, `{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels:
  {pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/warn: restricted}}}`, name)
	if _, err := c.objects.Resource(core.SchemeGroupVersion.WithResource("namespaces")).
		Patch(ctx, name, types.ApplyPatchType, document, meta1.PatchOptions{FieldManager: "namespaces"}); err != nil {
		return err
	}
	account := &core.ServiceAccount{ObjectMeta: meta1.ObjectMeta{Name: "default"}}
	if _, err := c.CoreV1().ServiceAccounts(name).Create(ctx, account, meta1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}

// podOf is the first pod that a controller would make of an object; nil if it makes none.
func podOf(o *unstructured.Unstructured) (*core.Pod, error) {
	var template core.PodTemplateSpec
	var claims []core.PersistentVolumeClaim
	switch o.GroupVersionKind() {
	case apps.SchemeGroupVersion.WithKind("Deployment"):
		var d apps.Deployment
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &d); err != nil {
			return nil, err
		}
		template = d.Spec.Template
	case apps.SchemeGroupVersion.WithKind("StatefulSet"):
		var s apps.StatefulSet
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &s); err != nil {
			return nil, err
		}
		template, claims = s.Spec.Template, s.Spec.VolumeClaimTemplates
	default:
		if _, found, _ := unstructured.NestedMap(o.Object, "spec", "template", "spec"); found {
			return nil, fmt.Errorf("%s %s has a pod, and this check does not know it", o.GetKind(), o.GetName())
		}
		return nil, nil
	}
	pod := &core.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	pod.Name, pod.Namespace = o.GetName()+"-0", o.GetNamespace()
	for _, claim := range claims {
		pod.Spec.Volumes = append(pod.Spec.Volumes, core.Volume{Name: claim.Name, VolumeSource: core.VolumeSource{
			PersistentVolumeClaim: &core.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name + "-" + pod.Name},
		}})
	}
	return pod, nil
}

// runs creates the pod of an object and takes it away, and the claims that it would have. It
// says whether there is a pod.
func (c *cluster) runs(ctx context.Context, o *unstructured.Unstructured) (bool, error) {
	pod, err := podOf(o)
	if pod == nil || err != nil {
		return false, err
	}
	if templates, _, _ := unstructured.NestedSlice(o.Object, "spec", "volumeClaimTemplates"); templates != nil {
		for _, template := range templates {
			var claim core.PersistentVolumeClaim
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(template.(map[string]any), &claim); err != nil {
				return true, err
			}
			claim.Name, claim.ResourceVersion = claim.Name+"-"+pod.Name, ""
			dry := meta1.CreateOptions{FieldValidation: meta1.FieldValidationStrict, DryRun: []string{meta1.DryRunAll}}
			if _, err := c.CoreV1().PersistentVolumeClaims(pod.Namespace).Create(ctx, &claim, dry); err != nil {
				return true, err
			}
		}
	}
	if _, err := c.CoreV1().Pods(pod.Namespace).Create(ctx, pod, meta1.CreateOptions{FieldValidation: meta1.FieldValidationStrict}); err != nil {
		return true, err
	}
	return true, c.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, meta1.DeleteOptions{GracePeriodSeconds: new(int64)})
}

// left is what is in a namespace, but for what every namespace has.
func (c *cluster) left(ctx context.Context, namespace string) (left []string, err error) {
	lists, err := c.Discovery().ServerPreferredNamespacedResources()
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
					left = append(left, o.GetKind()+" "+o.GetName())
				}
			}
		}
	}
	return left, nil
}

// toJSON is a document as the API's own tools send it.
func toJSON(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // of an unstructured object
	}
	return raw
}
