import java.io.DataInputStream;
import java.io.EOFException;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import jdk.jshell.Diag;
import jdk.jshell.EvalException;
import jdk.jshell.JShell;
import jdk.jshell.JShellException;
import jdk.jshell.Snippet;
import jdk.jshell.SnippetEvent;
import jdk.jshell.SourceCodeAnalysis.CompletionInfo;

/**
 * Evaluates cells with JShell. Reads commands on standard input, each one byte, a length (four
 * bytes, big-endian) and that many bytes of UTF-8: 'r' run a cell, 'h' run one without telling
 * its value, 's' stop what runs. Tells on the descriptor named by the first argument, a line
 * each, fields in base64: "value V", "error NAME VALUE TRACE", then always "done".
 */
public class JShellServer {
    private final JShell shell;
    private final PrintStream told;
    private volatile boolean stopped;

    private JShellServer(PrintStream told) {
        this.told = told;
        this.shell = JShell.builder().out(System.out).err(System.err).build();
        shell.onShutdown(ended -> {
            System.err.println("The cell has ended its JVM");
            System.err.flush();
            Runtime.getRuntime().halt(1);
        });
        for (String name : List.of(
                "java.io.*", "java.math.*", "java.net.*", "java.nio.file.*", "java.util.*",
                "java.util.concurrent.*", "java.util.function.*", "java.util.regex.*",
                "java.util.stream.*")) {
            shell.eval("import " + name + ";");
        }
    }

    public static void main(String[] arguments) throws Exception {
        FileOutputStream line = new FileOutputStream("/proc/self/fd/" + arguments[0]);
        JShellServer server = new JShellServer(new PrintStream(line, true, "UTF-8"));
        BlockingQueue<String> cells = new LinkedBlockingQueue<>();
        Thread reader = new Thread(() -> server.read(cells), "commands");
        reader.setDaemon(true);
        reader.start();
        server.tell("ready");
        while (true) {
            String cell = cells.take();
            server.run(cell.substring(1), cell.charAt(0) == 'r');
        }
    }

    private void read(BlockingQueue<String> cells) {
        try (DataInputStream input = new DataInputStream(System.in)) {
            while (true) {
                char command = (char) input.readByte();
                byte[] data = input.readNBytes(input.readInt());
                if (command == 's') {
                    stopped = true;
                    shell.stop();
                } else {
                    stopped = false;
                    cells.add(command + new String(data, StandardCharsets.UTF_8));
                }
            }
        } catch (EOFException ended) {
            Runtime.getRuntime().halt(0);
        } catch (IOException failed) {
            Runtime.getRuntime().halt(1);
        }
    }

    private void run(String code, boolean telling) {
        String rest = code;
        boolean good = true;
        while (good && !rest.isBlank() && !stopped) {
            CompletionInfo next = shell.sourceCodeAnalysis().analyzeCompletion(rest);
            boolean last = next.remaining().isBlank();
            String source = next.source() == null || next.source().isEmpty() ? rest : next.source();
            if (!next.completeness().isComplete() && next.source() != null && last) {
                source = rest;
            }
            good = evaluate(source, telling && last);
            rest = next.remaining();
        }
        if (stopped && good) {
            tell("error", "InterruptedException", "", "The cell was interrupted");
        }
        System.out.flush();
        System.err.flush();
        tell("done");
    }

    private boolean evaluate(String source, boolean telling) {
        for (SnippetEvent event : shell.eval(source)) {
            if (event.causeSnippet() != null) {
                continue;
            }
            if (event.exception() != null) {
                tellException(event.exception());
                return false;
            }
            if (event.status() == Snippet.Status.REJECTED) {
                tellRejection(source, shell.diagnostics(event.snippet()).toList());
                return false;
            }
            if (telling && event.value() != null && isShown(event.snippet())) {
                tell("value", event.value());
            }
        }
        return true;
    }

    private static boolean isShown(Snippet snippet) {
        return switch (snippet.subKind()) {
            case TEMP_VAR_EXPRESSION_SUBKIND, VAR_VALUE_SUBKIND, OTHER_EXPRESSION_SUBKIND -> true;
            default -> false;
        };
    }

    private void tellException(JShellException exception) {
        String name = "UnresolvedReferenceException";
        if (exception instanceof EvalException) {
            name = ((EvalException) exception).getExceptionClassName();
        }
        String message = exception.getMessage() == null ? "" : exception.getMessage();
        StringBuilder trace = new StringBuilder(name);
        if (!message.isEmpty()) {
            trace.append(": ").append(message);
        }
        for (StackTraceElement frame : exception.getStackTrace()) {
            trace.append("\n    at ").append(frame);
        }
        tell("error", name, message, trace.toString());
    }

    private void tellRejection(String source, List<Diag> diagnostics) {
        StringBuilder text = new StringBuilder();
        for (Diag each : diagnostics) {
            int at = (int) Math.max(0, Math.min(each.getPosition(), source.length()));
            long line = source.substring(0, at).lines().count();
            text.append("line ").append(Math.max(1, line)).append(": ");
            text.append(each.getMessage(null)).append('\n');
        }
        String first = diagnostics.isEmpty() ? "" : diagnostics.get(0).getMessage(null);
        tell("error", "CompilationException", first, text.toString().stripTrailing());
    }

    private synchronized void tell(String kind, String... fields) {
        StringBuilder line = new StringBuilder(kind);
        for (String field : fields) {
            byte[] bytes = field.getBytes(StandardCharsets.UTF_8);
            line.append(' ').append(Base64.getEncoder().encodeToString(bytes));
        }
        told.print(line.append('\n'));
        told.flush();
    }
}
