rule collect:
    """One experiment's table, from the tables of its jobs."""
    input:
        tables=lambda wildcards: EXPERIMENTS[wildcards.test].parts,
        modules=modules("collect"),
    output:
        table=table_of("{test}"),
    log:
        f"{RESULTS}/logs/tables/{{test}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
    script:
        "../scripts/collect.py"


rule collect_all:
    """The one table of all experiments."""
    input:
        tables=list(map(table_of, EXPERIMENTS)),
        modules=modules("collect"),
    output:
        table=table_of("all"),
    log:
        f"{RESULTS}/logs/tables/all.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
    script:
        "../scripts/collect.py"


# One rule for each derived table, since a caption's path knows no wildcards.
for test, experiment in EXPERIMENTS.items():
    for table, subject in experiment.tables.items():

        rule:
            name:
                f"table_{table}"
            input:
                rows=table_of(test),
                modules=modules("table"),
            output:
                files=printed(table),
                html=report(
                    f"{RESULTS}/tables/{table}.html",
                    caption=f"../report/{table}.rst",
                    category=experiment.title,
                    labels={"what": f"table: {subject}"},
                ),
            log:
                f"{RESULTS}/logs/tables/{table}.log",
            conda:
                "../../environment.yml"
            threads: 1
            resources:
                mem_mb=1000,
            params:
                name=table,
                files=lambda wildcards, output: list(output),
            script:
                "../scripts/table.py"
