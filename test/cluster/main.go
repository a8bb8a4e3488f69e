// SPDX-License-Identifier: Apache-2.0

// The cluster command brings up a real one-node Kubernetes with a real cert-manager for Heddle's tests, all of it built
// from Go modules: no container engine, no registry, no download but modules. README.md has the details.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/heddle-mesh/heddle/test/cluster/internal/build"
	"github.com/heddle-mesh/heddle/test/cluster/internal/home"
	"github.com/heddle-mesh/heddle/test/cluster/internal/kind"
	"github.com/heddle-mesh/heddle/test/cluster/internal/local"
	"github.com/heddle-mesh/heddle/test/cluster/internal/node"
)

// provider is a way to have a cluster.
type provider interface {
	Build(ctx context.Context) error
	Up(ctx context.Context) error
	Down(ctx context.Context) error
	Load(ctx context.Context, archives []string) error
	In(ctx context.Context, argv []string) (int, error)
	Status(ctx context.Context) (string, error)
	Order(ctx context.Context, verb, daemon string) error
	Kubeconfig() string
}

const usage = `usage: cluster [-provider local|kind] COMMAND

  build               make what is missing
  up                  bring the cluster up and wait until it is ready, cert-manager too
  down                end it; what was built and loaded stays
  status              say whether it is up, and how its daemons are
  load IMAGE.tar...   give images to it, now and whenever it comes up
  in CMD...           run a command in it, with KUBECONFIG set and kubectl and ctr in the PATH
  kubeconfig          print the path of the administrator's kubeconfig
  stop DAEMON         stop one of %s
  start DAEMON        and start it again
  envtest-assets      print a folder with kube-apiserver, etcd and kubectl, for KUBEBUILDER_ASSETS

Everything is kept in $%s (~/.cache/heddle/cluster).
`

func main() {
	log.SetFlags(0)
	log.SetPrefix("cluster: ")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), usage, strings.Join(node.Daemons(), ", "), home.Variable)
	}
	name := flag.String("provider", "local", "")
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code, err := run(ctx, *name, flag.Arg(0), flag.Args()[1:])
	stop()
	if err != nil {
		log.Print(err)
		code = 1
	}
	os.Exit(code)
}

func run(ctx context.Context, providerName, command string, args []string) (int, error) {
	h, err := home.Open()
	if err != nil {
		return 1, err
	}
	var p provider
	switch providerName {
	case "local":
		p = local.Cluster{Home: h}
	case "kind":
		p = kind.Cluster{Home: h}
	default:
		return 1, fmt.Errorf("no provider %q; there are local and kind", providerName)
	}
	switch command {
	case "node": // not for people: what `up` starts
		return 1, node.Run(ctx, h)
	case "in":
		if len(args) == 0 {
			return 2, errors.New("in: want a command to run")
		}
		return p.In(ctx, args)
	case "kubeconfig":
		fmt.Println(p.Kubeconfig())
		return 0, nil
	case "status":
		text, err := p.Status(ctx)
		if err != nil {
			return 1, err
		}
		fmt.Print(text)
		return 0, nil
	case "start", "stop":
		if len(args) != 1 {
			return 2, fmt.Errorf("usage: cluster %s DAEMON", command)
		}
		return 0, p.Order(ctx, command, args[0])
	}
	return 0, change(ctx, h, p, command, args)
}

// change runs the commands of which there may be one at a time.
func change(ctx context.Context, h home.Home, p provider, command string, args []string) error {
	unlock, err := h.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	switch command {
	case "up", "build", "envtest-assets":
		if err := h.KeepCommand(); err != nil {
			return err
		}
	}
	switch command {
	case "build":
		return p.Build(ctx)
	case "up":
		return p.Up(ctx)
	case "down":
		return p.Down(ctx)
	case "load":
		if len(args) == 0 {
			return errors.New("load: want archives of images")
		}
		return p.Load(ctx, args)
	case "envtest-assets":
		if err := build.Programs(ctx, h, build.API); err != nil {
			return err
		}
		fmt.Println(h.Bin())
		return nil
	default:
		return fmt.Errorf("no command %q; run `cluster` to see those that there are", command)
	}
}
