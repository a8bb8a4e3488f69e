// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/heddle-mesh/heddle/api/v1alpha1"
	"github.com/heddle-mesh/heddle/internal/evaluate"
	"github.com/heddle-mesh/heddle/internal/identity"
	"github.com/heddle-mesh/heddle/internal/meshconfig"
)

// Bounds of a policy, as in the schema.
const (
	maxPolicyPorts = 32
	maxPolicyRules = 64
	maxEntries     = 16
	maxCallers     = 64
	maxMethods     = 16
	maxPaths       = 32
)

var (
	targetPath        = specPath.Child("targetRef")
	mtlsPath          = specPath.Child("mtls")
	authorizationPath = specPath.Child("authorization")
)

// ValidateMeshPolicy says what is wrong with a policy by itself. operatorNamespace is where policies for the whole mesh
// are allowed; such a policy elsewhere is Forbidden.
func ValidateMeshPolicy(policy *v1alpha1.MeshPolicy, operatorNamespace string) field.ErrorList {
	return validateMeshPolicy(&policy.Spec, policy.Namespace, operatorNamespace)
}

func validateMeshPolicy(spec *v1alpha1.MeshPolicySpec, namespace, operatorNamespace string) field.ErrorList {
	errs := validateTarget(&spec.TargetRef)
	if spec.TargetRef.Kind == v1alpha1.TargetMesh && namespace != operatorNamespace {
		errs = append(errs, field.Forbidden(targetPath.Child("kind"), fmt.Sprintf(
			"a policy of kind Mesh counts only in namespace %q: move it there, or use kind Namespace", operatorNamespace)))
	}
	if spec.MTLS == nil && spec.Authorization == nil && len(spec.RateLimits) == 0 && spec.LoadBalancing == nil && spec.OutlierDetection == nil {
		errs = append(errs, field.Required(specPath, "set at least one of mtls, authorization, rateLimits, loadBalancing and outlierDetection"))
	}
	errs = append(errs, validateRateLimits(specPath.Child("rateLimits"), spec.RateLimits, spec.TargetRef.Port != nil)...)
	errs = append(errs, validateDefaults(spec)...)
	if spec.MTLS != nil {
		errs = append(errs, validateMTLS(spec.MTLS, spec.TargetRef.Port != nil)...)
	}
	if spec.Authorization != nil {
		errs = append(errs, validateAuthorization(spec.Authorization, spec.TargetRef.Port != nil)...)
	}
	return errs
}

func validateTarget(t *v1alpha1.PolicyTarget) field.ErrorList {
	var errs field.ErrorList
	switch t.Kind {
	case v1alpha1.TargetMesh, v1alpha1.TargetNamespace:
		if t.Name != "" {
			errs = append(errs, field.Forbidden(targetPath.Child("name"), "must be left out for kind "+string(t.Kind)))
		}
		if t.Port != nil {
			errs = append(errs, field.Forbidden(targetPath.Child("port"), "must be left out for kind "+string(t.Kind)+": use mtls.ports and authorization.rules[].to[].ports"))
		}
	case v1alpha1.TargetService:
		errs = append(errs, validateLabel(targetPath.Child("name"), t.Name)...)
	case v1alpha1.TargetWorkload:
		if (t.Name == "") == (t.Selector == nil) {
			errs = append(errs, field.Required(targetPath, "set exactly one of name and selector for kind Workload"))
		}
		if t.Name != "" && len(validation.IsDNS1123Subdomain(t.Name)) > 0 {
			errs = append(errs, field.Invalid(targetPath.Child("name"), truncate(t.Name), "must be the name of a pod"))
		}
	default:
		return field.ErrorList{field.NotSupported(targetPath.Child("kind"), t.Kind, []v1alpha1.TargetKind{
			v1alpha1.TargetMesh, v1alpha1.TargetNamespace, v1alpha1.TargetService, v1alpha1.TargetWorkload,
		})}
	}
	if t.Port != nil {
		errs = append(errs, validatePort(targetPath.Child("port"), *t.Port)...)
	}
	return append(errs, validateSelector(t)...)
}

func validateSelector(t *v1alpha1.PolicyTarget) field.ErrorList {
	path := targetPath.Child("selector")
	switch {
	case t.Selector == nil:
		return nil
	case t.Kind != v1alpha1.TargetWorkload:
		return field.ErrorList{field.Forbidden(path, "must be left out unless kind is Workload")}
	case len(t.Selector.MatchLabels)+len(t.Selector.MatchExpressions) == 0:
		return field.ErrorList{field.Required(path, "must hold matchLabels or matchExpressions: use kind Namespace for all pods")}
	}
	if _, err := metav1.LabelSelectorAsSelector(t.Selector); err != nil {
		return field.ErrorList{field.Invalid(path, truncate(metav1.FormatLabelSelector(t.Selector)), err.Error())}
	}
	return nil
}

// modes of mTLS.
var modes = map[v1alpha1.MTLSMode]meshconfig.MTLSMode{
	v1alpha1.MTLSStrict:     meshconfig.MTLSMode_MTLS_MODE_STRICT,
	v1alpha1.MTLSPermissive: meshconfig.MTLSMode_MTLS_MODE_PERMISSIVE,
	v1alpha1.MTLSDisabled:   meshconfig.MTLSMode_MTLS_MODE_DISABLED,
}

func validateMode(path *field.Path, mode v1alpha1.MTLSMode) field.ErrorList {
	if _, ok := modes[mode]; !ok {
		return field.ErrorList{field.NotSupported(path, mode, []v1alpha1.MTLSMode{
			v1alpha1.MTLSStrict, v1alpha1.MTLSPermissive, v1alpha1.MTLSDisabled,
		})}
	}
	return nil
}

func validateMTLS(m *v1alpha1.MTLS, hasPort bool) field.ErrorList {
	errs := validateMode(mtlsPath.Child("mode"), m.Mode)
	if m.Mode == v1alpha1.MTLSPermissive && m.Until == nil {
		errs = append(errs, field.Required(mtlsPath.Child("until"), "say when mode Permissive turns Strict, or list the ports that stay open in mtls.ports"))
	}
	if m.Mode == v1alpha1.MTLSStrict && m.Until != nil {
		errs = append(errs, field.Forbidden(mtlsPath.Child("until"), "must be left out for mode Strict, which does not end"))
	}
	path := mtlsPath.Child("ports")
	if hasPort && len(m.Ports) > 0 {
		errs = append(errs, field.Forbidden(path, "cannot be set beside targetRef.port, which already chooses the port"))
	}
	errs = append(errs, validateCount(path, len(m.Ports), 0, maxPolicyPorts)...)
	ports := sets.New[int32]()
	for i, p := range m.Ports {
		errs = append(errs, validatePort(path.Index(i).Child("port"), p.Port)...)
		errs = append(errs, validateMode(path.Index(i).Child("mode"), p.Mode)...)
		if ports.Has(p.Port) {
			errs = append(errs, field.Duplicate(path.Index(i).Child("port"), p.Port))
		}
		ports.Insert(p.Port)
	}
	return errs
}

func validateAction(path *field.Path, action v1alpha1.AuthorizationAction) field.ErrorList {
	if action != v1alpha1.ActionAllow && action != v1alpha1.ActionDeny {
		return field.ErrorList{field.NotSupported(path, action, []v1alpha1.AuthorizationAction{v1alpha1.ActionAllow, v1alpha1.ActionDeny})}
	}
	return nil
}

func validateAuthorization(a *v1alpha1.Authorization, hasPort bool) field.ErrorList {
	errs := validateAction(authorizationPath.Child("defaultAction"), a.DefaultAction)
	path := authorizationPath.Child("rules")
	errs = append(errs, validateCount(path, len(a.Rules), 0, maxPolicyRules)...)
	names := sets.New[string]()
	for i := range a.Rules {
		r := &a.Rules[i]
		at := path.Index(i)
		errs = append(errs, validateUniqueLabel(at.Child("name"), r.Name, names)...)
		errs = append(errs, validateAction(at.Child("action"), r.Action)...)
		errs = append(errs, validateCount(at.Child("from"), len(r.From), 0, maxEntries)...)
		for j := range r.From {
			errs = append(errs, validateSource(at.Child("from").Index(j), &r.From[j])...)
		}
		errs = append(errs, validateCount(at.Child("to"), len(r.To), 0, maxEntries)...)
		for j := range r.To {
			errs = append(errs, validateOperation(at.Child("to").Index(j), &r.To[j], hasPort)...)
		}
	}
	return errs
}

func validateSource(path *field.Path, s *v1alpha1.AuthorizationSource) field.ErrorList {
	set := 0
	for _, list := range [][]string{s.ServiceAccounts, s.Namespaces, s.Identities} {
		if len(list) > 0 {
			set++
		}
	}
	if set != 1 {
		return field.ErrorList{field.Required(path, "set exactly one of serviceAccounts, namespaces and identities, and use an entry of from for each alternative")}
	}
	errs := validateCount(path.Child("serviceAccounts"), len(s.ServiceAccounts), 0, maxCallers)
	for i, name := range s.ServiceAccounts {
		if name != "*" && serviceAccountID(name, "own", "mesh").Validate() != nil {
			errs = append(errs, field.Invalid(path.Child("serviceAccounts").Index(i), truncate(name), `must be "name", "namespace/name" or "*"`))
		}
	}
	errs = append(errs, validateCount(path.Child("namespaces"), len(s.Namespaces), 0, maxCallers)...)
	for i, name := range s.Namespaces {
		if name != "*" && len(validation.IsDNS1123Label(name)) > 0 {
			errs = append(errs, field.Invalid(path.Child("namespaces").Index(i), truncate(name), `must be the name of a namespace, or "*"`))
		}
	}
	errs = append(errs, validateCount(path.Child("identities"), len(s.Identities), 0, maxCallers)...)
	for i, id := range s.Identities {
		if _, err := identity.Parse(id); id != "*" && err != nil {
			errs = append(errs, field.Invalid(path.Child("identities").Index(i), truncate(id), err.Error()))
		}
	}
	return errs
}

func validateOperation(path *field.Path, o *v1alpha1.AuthorizationTarget, hasPort bool) field.ErrorList {
	var errs field.ErrorList
	if len(o.Ports)+len(o.Methods)+len(o.Paths) == 0 {
		errs = append(errs, field.Required(path, "set at least one of ports, methods and paths: leave to out for everything"))
	}
	if hasPort && len(o.Ports) > 0 {
		errs = append(errs, field.Forbidden(path.Child("ports"), "cannot be set beside targetRef.port, which already chooses the port"))
	}
	errs = append(errs, validateCount(path.Child("ports"), len(o.Ports), 0, maxPolicyPorts)...)
	for i, p := range o.Ports {
		errs = append(errs, validatePort(path.Child("ports").Index(i), p)...)
	}
	errs = append(errs, validateCount(path.Child("methods"), len(o.Methods), 0, maxMethods)...)
	for i, m := range o.Methods {
		if m != "*" && (len(m) > 32 || !methodPattern.MatchString(m)) {
			errs = append(errs, field.Invalid(path.Child("methods").Index(i), truncate(m), `must be a method in capitals, such as GET, or "*"`))
		}
	}
	errs = append(errs, validateCount(path.Child("paths"), len(o.Paths), 0, maxPaths)...)
	for i, p := range o.Paths {
		at := path.Child("paths").Index(i)
		if bad := validateLength(at, p, false); bad != nil {
			errs = append(errs, bad...)
		} else if err := evaluate.CheckRulePath(p); err != nil {
			errs = append(errs, field.Invalid(at, truncate(p), err.Error()))
		}
	}
	return errs
}

// serviceAccountID returns the identity of a service account "name" of the policy's namespace, or "namespace/name".
func serviceAccountID(account, ownNamespace, trustDomain string) identity.ID {
	if namespace, name, ok := strings.Cut(account, "/"); ok {
		return identity.ID{TrustDomain: trustDomain, Namespace: namespace, ServiceAccount: name}
	}
	return identity.ID{TrustDomain: trustDomain, Namespace: ownNamespace, ServiceAccount: account}
}
