// Command typed decodes the custom resources of a rendered manifest into the Go types of the
// operators that own them, and refuses any field those types do not have.
//
// The API server prunes a misspelt field of a custom resource in silence, and no schema for these
// kinds ships with Kubernetes, so a typo here would only show as an autoscaler that never scales.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	keda "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

var kinds = map[string]func() any{
	"keda.sh/v1alpha1/ScaledObject":           func() any { return &keda.ScaledObject{} },
	"keda.sh/v1alpha1/ScaledJob":              func() any { return &keda.ScaledJob{} },
	"keda.sh/v1alpha1/TriggerAuthentication":  func() any { return &keda.TriggerAuthentication{} },
	"monitoring.coreos.com/v1/PodMonitor":     func() any { return &monitoring.PodMonitor{} },
	"monitoring.coreos.com/v1/PrometheusRule": func() any { return &monitoring.PrometheusRule{} },
}

type header struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name string `json:"name"`
	} `json:"metadata"`
}

func main() {
	checked, failed := 0, 0
	reader := utilyaml.NewYAMLReader(bufio.NewReader(os.Stdin))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "typed: reading a document from stdin: %v\n", err)
			os.Exit(2)
		}
		var head header
		if err := yaml.Unmarshal(document, &head); err != nil {
			fmt.Fprintf(os.Stderr, "typed: a document is no object: %v\n", err)
			os.Exit(2)
		}
		empty, known := kinds[head.APIVersion+"/"+head.Kind]
		if !known {
			continue
		}
		checked++
		if err := decode(document, empty()); err != nil {
			failed++
			fmt.Printf("  %s/%s: %v\n", head.Kind, head.Metadata.Name, err)
		}
	}
	fmt.Printf("typed: %d custom resources, %d with errors\n", checked, failed)
	if failed > 0 {
		os.Exit(1)
	}
}

// decode is as strict as the API server's own field validation: unknown and doubled fields are errors,
// and so is a field in the wrong case, which Go's standard decoder would accept.
func decode(document []byte, into any) error {
	data, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return err
	}
	strict, err := json.UnmarshalStrict(data, into)
	if err != nil {
		return err
	}
	return errors.Join(strict...)
}
