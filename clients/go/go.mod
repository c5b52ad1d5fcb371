module github.com/keepwell/keepwell/clients/go

go 1.19
