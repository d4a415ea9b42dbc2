// Command pause does nothing until it is told to stop.
//
// It is the sandbox image of the test cluster's pods, and the smallest application a test can run.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// As process 1 of a container it is sent no signal it does not ask for.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	println("pause: started, waiting for SIGTERM")
	<-stop
}
