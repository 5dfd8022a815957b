// One command of Flyway on a database and a folder. What it found goes to standard output; when it refuses, the exit code is 1.
import org.flywaydb.core.Flyway;
import org.flywaydb.database.postgresql.PostgreSQLConfigurationExtension;

class Turn {
    public static void main(String[] arguments) {
        var settings = Flyway.configure().dataSource(arguments[1], "postgres", null).locations("filesystem:" + arguments[2]);
        // By default Flyway's lock holds a transaction open, for which CREATE INDEX CONCURRENTLY waits forever.
        settings.getConfigurationExtension(PostgreSQLConfigurationExtension.class).setTransactionalLock(false);
        settings.outOfOrder(arguments[0].equals("out-of-order"));
        if (arguments[0].equals("impatient")) {
            settings.lockRetryCount(1);
        }
        if (arguments[0].startsWith("baseline-")) {
            settings.baselineVersion(arguments[0].substring("baseline-".length())).load().baseline();
            return;
        }
        var flyway = settings.load();
        switch (arguments[0]) {
            case "migrate", "out-of-order", "impatient" -> System.out.println(flyway.migrate().migrationsExecuted);
            case "validate" -> {
                flyway.validate();
                for (var migration : flyway.info().all()) {
                    System.out.println(migration.getState() + " " + migration.getScript());
                }
            }
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }
}
