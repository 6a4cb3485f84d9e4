// Copyright (c) twisted_socks5 contributors.
// See LICENSE for details.

// A server on armon/go-socks5, to measure against: gosocks PORT.
package main

import (
	"io/ioutil"
	"log"
	"os"

	"github.com/armon/go-socks5"
)

func main() {
	server, err := socks5.New(&socks5.Config{Logger: log.New(ioutil.Discard, "", 0)})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(server.ListenAndServe("tcp", "127.0.0.1:"+os.Args[1]))
}
