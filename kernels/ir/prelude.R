# What IRkernel leaves out: which value is the cell's, an error for a cell that was
# interrupted, input that can be refused, environment variables as the answer to a question,
# and `quit` that ends the process with its status.
options(bitmapType = "cairo", crayon.enabled = FALSE)
local({
  executor <- environment(getOption("jupyter.base_display_func"))
  kernel <- environment(executor$handle_stdin)
  send <- executor$send_response
  held <- NULL

  # Values are displays to IRkernel. The last one, if nothing comes after it, is the result.
  give_held <- function(type) {
    if (is.null(held)) return()
    given <- held
    held <<- NULL
    if (type == "execute_result") given$content$execution_count <- executor$execution_count
    send(type, given$request, "iopub", given$content)
  }

  # A plot is sent when it is complete, maybe after all values.
  is_plot <- function(msg_type, content) {
    msg_type == "display_data" && "image/png" %in% names(content$data)
  }

  executor$send_response <- function(msg_type, parent_msg, socket_name, content) {
    if (is_plot(msg_type, content)) {
      return(send(msg_type, parent_msg, socket_name, content))
    }
    is_value <- identical(sys.function(sys.parent()), executor$handle_value)
    is_end <- msg_type == "execute_reply" && identical(content$status, "ok")
    give_held(if (is_end) "execute_result" else "display_data")
    if (msg_type == "display_data" && is_value) {
      held <<- list(request = parent_msg, content = content)
      return(invisible())
    }
    if (msg_type == "input_request" && !isTRUE(parent_msg$content$allow_stdin)) {
      stop("The cell asks for input, and nobody is there to answer: run it with on_input",
           call. = FALSE)
    }
    if (msg_type == "execute_reply" && isTRUE(executor$interrupted)) {
      error <- list(ename = "Interrupt", evalue = "The cell was interrupted",
                    traceback = list("The cell was interrupted"))
      send("error", parent_msg, "iopub", error)
      content <- c(list(status = "error", execution_count = content$execution_count), error)
    }
    send(msg_type, parent_msg, socket_name, content)
  }

  executor$handle_stdin <- function() {
    pollin <- pbdZMQ::ZMQ.PO()$POLLIN
    repeat {
      pbdZMQ::zmq.poll(c(kernel$sockets$stdin), c(pollin),
                       MC = pbdZMQ::ZMQ.MC(check.eintr = TRUE))
      if (bitwAnd(pbdZMQ::zmq.poll.get.revents(1), pollin)) {
        parts <- pbdZMQ::zmq.recv.multipart(kernel$sockets$stdin, unserialize = FALSE)
        return(kernel$wire_to_msg(parts)$content$value)
      }
    }
  }

  before <- list()
  put <- function(pair) {
    if (is.null(pair[[2]])) Sys.unsetenv(pair[[1]])
    else do.call(Sys.setenv, stats::setNames(pair[2], pair[[1]]))
  }
  value <- function(pair) {
    name <- pair[[1]]
    there <- Sys.getenv(name, NA)
    list(name, if (!is.na(there)) there)
  }
  options(code_interpreter.set_variables = function() {
    content <- list(prompt = "", password = FALSE)
    send("input_request", executor$current_request, "stdin", content)
    told <- jsonlite::parse_json(executor$handle_stdin())
    lapply(c(before, told[[1]]), put)
    before <<- lapply(told[[2]], value)
    lapply(told[[2]], put)
    invisible()
  })

  assign("quit", function(save = "no", status = 0, runLast = TRUE) {
    IRkernel:::backup_env$base_quit("no", status, runLast)
  }, envir = executor)
})
invisible()
