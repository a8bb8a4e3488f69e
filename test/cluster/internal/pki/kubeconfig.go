// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// object is JSON, which every reader of YAML takes.
type object = map[string]any

// kubeconfig writes USER.conf with the user's key in it, so that the file can be read and passed on by itself.
func kubeconfig(dir, user string) error {
	var files [3][]byte
	for i, name := range []string{"ca.crt", user + ".crt", user + ".key"} {
		var err error
		if files[i], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	const name = "heddle"
	data, err := json.MarshalIndent(object{
		"apiVersion": "v1", "kind": "Config", "current-context": name,
		"clusters": []object{{"name": name, "cluster": object{
			"server": Server, "certificate-authority-data": files[0],
		}}},
		"users": []object{{"name": user, "user": object{
			"client-certificate-data": files[1], "client-key-data": files[2],
		}}},
		"contexts": []object{{"name": name, "context": object{"cluster": name, "user": user}}},
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, user+".conf"), append(data, '\n'), 0o600)
}
