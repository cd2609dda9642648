# One rule for each test, since a caption's path knows no wildcards.
for test in TESTS:

    rule:
        name:
            f"figures_{test}"
        input:
            table=f"{RESULTS}/tables/{test}.csv",
            modules=MODULES["figures"],
        output:
            png=[
                report(
                    f"{RESULTS}/figures/{figure}.png",
                    caption=f"../report/{figure}.rst",
                    category=CATEGORIES[test],
                    labels={"what": f"figure: {subject}"},
                )
                for figure, subject in FIGURES[test].items()
            ],
            pdf=expand(f"{RESULTS}/figures/{{figure}}.pdf", figure=FIGURES[test]),
        log:
            f"{RESULTS}/logs/figures/{test}.log",
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=1000,
        params:
            tables=lambda wildcards, input: [input.table],
            files=lambda wildcards, output: [*output.png, *output.pdf],
        script:
            "../scripts/figures.py"


rule figures:
    """All figures again, from the tables as they are; only a table that is missing is made.

    Without outputs it runs whenever it is asked for; and as the tables that exist are no inputs,
    nothing is computed, even where code or configuration have changed.
    """
    input:
        lambda wildcards: [table for table in TEST_TABLES if not Path(table).exists()],
    log:
        f"{RESULTS}/logs/figures/all.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        tables=TEST_TABLES,
        files=FIGURE_FILES,
    script:
        "../scripts/figures.py"
